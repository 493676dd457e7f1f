"""Networks and losses in PyTorch, as its users would write them, for benchmarks/step.py to compare with."""

import functools

import torch
from torch import nn
from torch.nn import functional as F

from siamjax.encoders._inverted import MOBILENET_V2


def koch():
    layers, inputs = [], 1
    for number, (channels, kernel) in enumerate([(64, 10), (128, 7), (128, 4), (256, 4)]):
        layers += [nn.Conv2d(inputs, channels, kernel), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if number < 3 else []
        inputs = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(9216, 4096), nn.Sigmoid())


def small():
    layers, inputs = [], 1
    for number, channels in enumerate([32, 32, 64, 64, 64], start=1):
        layers += normalised(inputs, channels, 3, nn.ReLU())
        layers += [nn.MaxPool2d(2)] if number in (2, 3, 4) else []
        inputs = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(576, 256))


def normalised(inputs, channels, kernel, *activation, stride=1, groups=1):
    convolution = nn.Conv2d(inputs, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(channels), *activation]


class Local(nn.Module):
    """`local56` of width 16: a map of 7×7 descriptors of 32 components."""

    def __init__(self):
        super().__init__()
        layers, inputs = normalised(1, 16, 5, nn.ReLU(), stride=2), 16
        for number, channels in enumerate([16, 48, 96, 96], start=2):
            layers += normalised(inputs, channels, 3, nn.ReLU())
            layers += [nn.MaxPool2d(2)] if number in (2, 3) else []
            inputs = channels
        self.layers, self.weight, self.descriptors = nn.Sequential(*layers), nn.Linear(96, 1), nn.Linear(96, 32)

    def forward(self, x):
        x = self.layers(x).flatten(2).transpose(1, 2)
        return self.weight(x).softmax(1) * F.normalize(self.descriptors(x), dim=2)


def aligned(maps):
    """Similarities [n, n] of maps [n, 49, 32], as by the head `aligned`: the best match one step around each place."""
    lengths = maps.norm(dim=2)
    unit, weight = F.normalize(maps, dim=2), lengths / lengths.sum(1, keepdim=True)
    around = F.pad(unit.unflatten(1, (7, 7)), (0, 0, 1, 1, 1, 1))
    moved = [around[:, y : y + 7, x : x + 7].flatten(1, 2) for y, x in ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))]
    products = [torch.matmul(unit.transpose(0, 1), other.permute(1, 2, 0)) for other in moved]
    there = torch.einsum("pnm,np->nm", functools.reduce(torch.maximum, products), weight)
    return (there + there.T) / 2


class Block(nn.Module):
    def __init__(self, inputs, channels, widening, stride):
        super().__init__()
        inside = widening * inputs
        layers = normalised(inputs, inside, 1, nn.ReLU6()) if widening > 1 else []
        layers += normalised(inside, inside, 3, nn.ReLU6(), stride=stride, groups=inside)
        self.layers = nn.Sequential(*layers, *normalised(inside, channels, 1))
        self.adds = stride == 1 and inputs == channels

    def forward(self, x):
        return x + self.layers(x) if self.adds else self.layers(x)


def mobilenet():
    """MobileNetV2 as torchvision has it, with a linear layer of 256 in place of the classifier."""
    layers, inputs = normalised(3, 32, 3, nn.ReLU6(), stride=2), 32
    for widening, channels, blocks, stride, _ in MOBILENET_V2:
        for number in range(blocks):
            layers.append(Block(inputs, channels, widening, stride if number == 0 else 1))
            inputs = channels
    last = [*normalised(inputs, 1280, 1, nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 256)]
    return nn.Sequential(*layers, *last)


NETWORKS = {"koch": koch, "small": small, "local": Local, "mobilenet": mobilenet}


def of_pairs(dimension):
    """Koch's loss: the first half of the embeddings [n, d] against the second, of which every other one is the same."""
    head = nn.Linear(dimension, 1)

    def loss(embeddings):
        first, second = embeddings.chunk(2)
        wanted = (torch.arange(len(first)) % 2 == 0).float()
        return F.binary_cross_entropy_with_logits(head((first - second).abs())[:, 0], wanted)

    return loss, head


def ntxent(logits):
    """NT-Xent of logits [n, n], four images per identity: each positive against all negatives of its anchor."""
    label = torch.arange(len(logits)) // 4
    same = (label[:, None] == label) & ~torch.eye(len(logits), dtype=bool)
    rest = logits.masked_fill(label[:, None] == label, -torch.inf).logsumexp(1, keepdim=True)
    return F.softplus(rest - logits)[same].mean()


def similarities(embeddings):
    """Cosines [n, n] by a temperature of 0.07."""
    unit = F.normalize(embeddings)
    return unit @ unit.T / 0.07


def similarities_of_maps(maps):
    """Logits [n, n] of the head `aligned`, whose threshold makes no difference to `ntxent`."""
    return 14 * aligned(maps)
