"""Decoupled contrastive loss, GE2E, NCA and VICReg, term by term, in float64."""

import math

import numpy as np
from reference.distances import squared_euclidean
from reference.softmax import Given, cosine, log_sum_exp, negatives, positives


def decoupled_contrastive(embeddings, labels, where, temperature, sigma):
    found = []
    for a in range(len(labels)):
        far = [cosine(embeddings[a], embeddings[n]) / temperature for n in negatives(a, labels, where)]
        near = [cosine(embeddings[a], embeddings[p]) for p in positives(a, labels, where)]
        found += [(s, log_sum_exp(far)) for s in near if far]
    mean = sum(math.exp(s / sigma) for s, _ in found) / max(len(found), 1) if sigma else 0
    weights = [2 - math.exp(s / sigma) / mean if sigma else 1 for s, _ in found]
    return [rest - w * s / temperature for w, (s, rest) in zip(weights, found, strict=True)]


def nca(embeddings, labels, where, scale):
    values = []
    for a in range(len(labels)):
        near, far = (
            [-scale * squared_euclidean(embeddings[a], embeddings[i]) for i in of(a, labels, where)]
            for of in (positives, negatives)
        )
        if near:
            values.append(log_sum_exp(near + far) - log_sum_exp(near))
    return values


def ge2e(embeddings, labels, where, w, b, contrast):
    """Without labels of the columns, each negative is a class of its own."""
    unit = [np.asarray(e) / np.linalg.norm(e) for e in embeddings]
    offset, classes = labels.offset, labels.classes
    values = []
    for a in range(len(labels)):
        near, far = positives(a, labels, where), negatives(a, labels, where)
        if not near or not far:
            continue
        own = w * cosine(unit[a], sum(unit[p] for p in near) / len(near)) + b
        groups = {n if classes is None else classes[n - offset]: [] for n in far}
        for n in far:
            groups[n if classes is None else classes[n - offset]].append(unit[n])
        rest = [w * cosine(unit[a], sum(group) / len(group)) + b for group in groups.values()]
        if contrast:
            values.append(1 - _sigmoid(own) + max(map(_sigmoid, rest)))
        else:
            values.append(log_sum_exp([own, *rest]) - own)
    return values


def vicreg(embeddings, labels, where, invariance, variance, covariance, epsilon):
    rows, columns, near = set(), set(), []
    for a in range(len(labels)):
        of_a = positives(a, labels, where)
        near += [squared_euclidean(embeddings[a], embeddings[p]) / len(embeddings[a]) for p in of_a]
        met = of_a + negatives(a, labels, where)
        rows |= {a} if met else set()
        columns |= set(met)
    if not (isinstance(labels, Given) and labels.offset):
        rows = columns = rows | columns
    total = invariance * sum(near) / max(len(near), 1)
    for items in (rows, columns):
        if len(items) > 1:
            x = np.asarray([embeddings[i] for i in sorted(items)])
            cov = np.cov(x.T, ddof=1)
            total += variance * np.mean([max(0.0, 1 - math.sqrt(v + epsilon)) for v in np.diag(cov)]) / 2
            total += covariance * (np.sum(cov**2) - np.sum(np.diag(cov) ** 2)) / len(cov)
    return total


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))
