"""Softmax losses, term by term, in float64, from their formulas; each returns the terms that the mean is over."""

import math

from reference import distances


def log_sum_exp(terms):
    """log Σ exp of a list; −∞ of an empty one."""
    if not terms:
        return -math.inf
    largest = max(terms)
    return largest + math.log(sum(math.exp(term - largest) for term in terms))


class Given:
    """In place of labels: the pairs that count, as masks [n][m]. Column j is embedding `offset` + j: n + j, or j where
    columns are the anchors themselves. `classes` are the labels of the columns, if they have any."""

    def __init__(self, positive, negative, offset, classes=None):
        self.positive, self.negative, self.offset, self.classes = positive, negative, offset, classes

    def __len__(self):
        return len(self.positive)

    def choose(self, mask, item, where):
        if self.offset and item >= self.offset:
            return [i for i in range(len(mask)) if where[i] and mask[i][item - self.offset]]
        both = [j for j in range(len(mask[item])) if where[item] and (self.offset or (where[j] and j != item))]
        return [self.offset + j for j in both if mask[item][j]]


def positives(anchor, labels, where):
    """Other items of the anchor's class that take part; none if the anchor itself does not."""
    if isinstance(labels, Given):
        return labels.choose(labels.positive, anchor, where)
    items = [i for i in range(len(labels)) if i != anchor and where[i] and where[anchor]]
    return [i for i in items if labels[i] == labels[anchor]]


def negatives(anchor, labels, where):
    if isinstance(labels, Given):
        return labels.choose(labels.negative, anchor, where)
    return [i for i in range(len(labels)) if where[i] and where[anchor] and labels[i] != labels[anchor]]


def cosine(a, b):
    return 1 - distances.cosine(a, b)


def n_pair_mc(anchors, positives, labels, where):
    values = []
    for i in range(len(anchors)):
        if where[i]:
            own = distances.dot(anchors[i], positives[i])
            terms = [distances.dot(anchors[i], positives[j]) - own for j in negatives(i, labels, where)]
            values.append(log_sum_exp([0.0, *terms]))
    return values


def each_positive(similarity, embeddings, labels, where, scale=1.0):
    """−log(e^(s S_ap) / (e^(s S_ap) + Σ_n e^(s S_an))) for all positive pairs."""
    values = []
    for a in range(len(labels)):
        rest = [scale * similarity(embeddings[a], embeddings[n]) for n in negatives(a, labels, where)]
        for p in positives(a, labels, where):
            own = scale * similarity(embeddings[a], embeddings[p])
            values.append(log_sum_exp([own, *rest]) - own)
    return values


def supervised_contrastive(embeddings, labels, where, temperature):
    values = []
    for a in range(len(labels)):
        own = positives(a, labels, where)
        others = own + negatives(a, labels, where)
        total = log_sum_exp([cosine(embeddings[a], embeddings[i]) / temperature for i in others])
        if own:
            log_shares = [cosine(embeddings[a], embeddings[p]) / temperature - total for p in own]
            values.append(-sum(log_shares) / len(own))
    return values
