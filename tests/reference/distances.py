"""Distances, one pair and one component at a time."""

import math

import numpy as np


def squared_euclidean(a, b):
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def euclidean(a, b):
    return math.sqrt(squared_euclidean(a, b))


def l1(a, b):
    return sum(abs(float(x) - float(y)) for x, y in zip(a, b, strict=True))


def lp(a, b, p=2):
    differences = [abs(float(x) - float(y)) for x, y in zip(a, b, strict=True)]
    if math.isinf(p):
        return max(differences)
    return sum(difference**p for difference in differences) ** (1 / p)


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def cosine(a, b):
    lengths = math.sqrt(dot(a, a)) * math.sqrt(dot(b, b))
    return 1 - dot(a, b) / lengths if lengths > 0 else 1.0


def all_pairs(distance, a, b, **options):
    """float64 [n, m] of `distance` (one of the above) of each row of a with each row of b."""
    values = np.zeros((len(a), len(b)))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            values[i, j] = distance(x, y, **options)
    return values
