"""Pair losses, item by item, in float64, from their formulas."""

import math

import numpy as np
from reference.softmax import negatives, positives


def l1(a, b):
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))


def euclidean(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def cosine(a, b):
    """The cosine itself, 0 for a zero vector."""
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths > 0 else 0.0


def log1p_exp(x):
    return x if x > 50 else math.log1p(math.exp(x))


def binary_cross_entropy(logit, same, label_smoothing=0.0):
    target = (1 - label_smoothing) * same + label_smoothing * 0.5
    return target * log1p_exp(-logit) + (1 - target) * log1p_exp(logit)


def exponential_contrastive(energy, same, q):
    y = 0 if same else 1
    return (1 - y) * (2 / q) * energy**2 + y * 2 * q * math.exp(-2.77 / q * energy)


def contrastive(distance, same, margin):
    y = 0 if same else 1
    return (1 - y) * 0.5 * distance**2 + y * 0.5 * max(0.0, margin - distance) ** 2


def double_margin_contrastive(distance, same, pos_margin, neg_margin):
    if same:
        return 0.5 * max(0.0, distance - pos_margin) ** 2
    return 0.5 * max(0.0, neg_margin - distance) ** 2


def linear_contrastive(distance, same, pos_margin, neg_margin):
    return max(0.0, distance - pos_margin) if same else max(0.0, neg_margin - distance)


def cosine_embedding(a, b, same, margin):
    return 1 - cosine(a, b) if same else max(0.0, cosine(a, b) - margin)


def pairwise_sigmoid(similarity, same, t, b):
    z = 1 if same else -1
    return log1p_exp(-z * (t * similarity + b))


def mean(values):
    return sum(values) / len(values) if values else 0.0


def balanced(values, same, balance):
    """The kinds' means, weighed; or the mean of all for `balance` None."""
    if balance is None:
        return mean(values)
    positive = [value for value, is_same in zip(values, same, strict=True) if is_same]
    negative = [value for value, is_same in zip(values, same, strict=True) if not is_same]
    return balance * mean(positive) + (1 - balance) * mean(negative)


def on_all_pairs(pair_loss, embeddings, labels, where, balance):
    """`pair_loss(a, b, same)` over all ordered pairs of two different items."""
    values, kinds = [], []
    for i, j, same in _pairs(labels, where):
        values.append(pair_loss(embeddings[i], embeddings[j], same))
        kinds.append(same)
    return balanced(values, kinds, balance)


def batch_pairwise_sigmoid(embeddings, labels, where, t, b):
    total = 0.0
    for i, j, same in _pairs(labels, where):
        total += pairwise_sigmoid(cosine(embeddings[i], embeddings[j]), same, t, b)
    return total / max(sum(where), 1)


def circle(embeddings, labels, where, m, gamma, weights_at=None):
    """Circle loss; its weights are those of the embeddings `weights_at`, so that differences leave them constant."""
    weights_at = embeddings if weights_at is None else weights_at
    values = []
    for i in range(len(labels)):
        pull, push = [], []
        for a, j, same in _pairs(labels, where):
            if a != i:
                continue
            s, now = cosine(embeddings[i], embeddings[j]), cosine(weights_at[i], weights_at[j])
            if same:
                pull.append(math.exp(-gamma * max(0.0, 1 + m - now) * (s - (1 - m))))
            else:
                push.append(math.exp(gamma * max(0.0, now + m) * (s - m)))
        if pull and push:
            values.append(math.log(1 + sum(pull) * sum(push)))
    return mean(values)


def gradient(function, x, step=1e-6):
    """Central differences of `function` at x, coordinate by coordinate."""
    x = np.array(x, np.float64)
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        there = x.copy()
        there[index] = x[index] + step
        up = function(there)
        there[index] = x[index] - step
        result[index] = (up - function(there)) / (2 * step)
    return result


def _pairs(labels, where):
    """All (anchor, other, same) that count."""
    kinds = ((True, positives), (False, negatives))
    return [(i, j, same) for i in range(len(labels)) for same, of in kinds for j in of(i, labels, where)]
