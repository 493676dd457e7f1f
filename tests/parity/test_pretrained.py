"""The architectures with published weights, against PyTorch's on the same random weights."""

import jax
import numpy as np
import pytest

from siamjax import encoders, pretrained

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

# Our name -> the network of torchvision or timm, and how it is called without its classifier.
MODELS = {
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(),
    "resnet18": lambda: torchvision.models.resnet18(),
    "resnet50": lambda: torchvision.models.resnet50(),
    "efficientnet_lite0": lambda: timm.create_model("efficientnet_lite0"),
    "vit_s14": lambda: timm.create_model("vit_small_patch14_dinov2", dynamic_img_size=True),
}
# As published, with the classifier: https://docs.pytorch.org/vision/stable/models.html, and timm's results.
PUBLISHED = {"mobilenet_v2": 3_504_872, "resnet18": 11_689_512, "resnet50": 25_557_032, "efficientnet_lite0": 4_652_008}


def randomised(model):
    """`model` with random numbers in all that is constant at the start, so that no layer can be left out unseen."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var") or "norm" in name or "bn" in name or "gamma" in name:
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias", "cls_token")):
                tensor.normal_(0, 0.1)
    return model.eval()


def features(model, images):
    """What the classifier reads."""
    kept = {}
    last = list(model.children())[-1]
    last = last[-1] if isinstance(last, torch.nn.Sequential) else last
    last.register_forward_pre_hook(lambda _, inputs: kept.update(inputs=inputs[0]))
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        model((torch.from_numpy(images).permute(0, 3, 1, 2) - mean) / deviation)
    return kept["inputs"].numpy()


@pytest.mark.parametrize("name", MODELS)
def test_equals_pytorchs_on_random_weights(name, tmp_path):
    model = randomised(MODELS[name]())
    if name in PUBLISHED:
        assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    variables = pretrained.load(name, tmp_path / "weights.pth")
    images = np.random.default_rng(0).uniform(size=(2, 70, 84, 3)).astype(np.float32)
    expected = features(model, images)
    encoder = encoders.make(name, width=1, embedding=expected.shape[1])
    variables = {part: {"backbone": tree} for part, tree in variables.items()}
    got = jax.jit(encoder.apply)(variables, images)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
