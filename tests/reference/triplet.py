"""Triplet losses, one triplet at a time."""

import math

import numpy as np
from reference import softmax


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def plain(a, b):
    return math.sqrt(squared(a, b))


def variance(x):
    mean = sum(x) / len(x)
    return sum((value - mean) ** 2 for value in x) / len(x)


def snr(a, b):
    return variance([x - y for x, y in zip(a, b, strict=True)]) / variance(list(a))


def hinge(x):
    return x if x > 0 else 0.0


def softplus(x):
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


def triplet(a, p, n, margin, shape=hinge, distance=plain, swap=False):
    far = distance(a, n)
    if swap and distance(p, n) < far:
        far = distance(p, n)
    return shape(distance(a, p) - far + margin)


def quadruplet(a, p, n, o, margin, second_margin, distance=squared):
    near = distance(a, p)
    return hinge(near - distance(a, n) + margin) + hinge(near - distance(n, o) + second_margin)


def all_triplets(embeddings, labels, where, distance):
    """(anchor, d_ap, d_an) of every valid triplet."""
    found = []
    for a, positives, negatives in _anchors(embeddings, labels, where, distance):
        found += [(a, near, far) for near in positives for far in negatives]
    return found


def semi_hard_triplets(embeddings, labels, where, distance, fallback):
    found = []
    for a, positives, negatives in _anchors(embeddings, labels, where, distance):
        for near in positives:
            farther = [far for far in negatives if far > near]
            if farther:
                found.append((a, near, min(farther)))
            elif fallback and negatives:
                found.append((a, near, max(negatives)))
    return found


def hard_triplets(embeddings, labels, where, distance):
    found = []
    for a, positives, negatives in _anchors(embeddings, labels, where, distance):
        if positives and negatives:
            found.append((a, max(positives), min(negatives)))
    return found


def easy_positive_triplets(embeddings, labels, where, distance, semi_hard):
    found = []
    for a, positives, negatives in _anchors(embeddings, labels, where, distance):
        if semi_hard:
            negatives = [far for far in negatives if positives and far > min(positives)]
        if positives and negatives:
            found.append((a, min(positives), min(negatives)))
    return found


def loss_and_share(triplets, margin, shape=hinge, active_only=False):
    """Mean loss of the triplets, and the share of them that violate the margin."""
    active = sum(near - far + margin > 0 for _, near, far in triplets)
    terms = active if active_only else len(triplets)
    total = sum(shape(near - far + margin) for _, near, far in triplets)
    return (total / terms if terms else 0.0), (active / len(triplets) if triplets else 0.0)


def sums_of_anchors(triplets, n, margin, shape=hinge):
    sums = np.zeros(n)
    for a, near, far in triplets:
        sums[a] += shape(near - far + margin)
    return sums


def _anchors(embeddings, labels, where, distance):
    for a in range(len(labels)):
        near, far = softmax.positives(a, labels, where), softmax.negatives(a, labels, where)
        yield a, *([distance(embeddings[a], embeddings[b]) for b in kind] for kind in (near, far))
