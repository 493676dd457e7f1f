"""Losses against learned points of each class, item by item, in float64, from their formulas."""

import math

import numpy as np


def unit(x):
    length = math.sqrt(sum(v * v for v in x))
    return [v / length for v in x] if length > 0 else list(x)


def cosine(a, b):
    return sum(x * y for x, y in zip(unit(a), unit(b), strict=True))


def squared_euclidean(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def mean(values):
    return sum(values) / len(values) if values else 0.0


def log_sum_exp(values):
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def proxy_nca(embeddings, labels, proxies, where, scale=1.0, include_positive=False):
    values = []
    for x, y, counts in zip(embeddings, labels, where, strict=True):
        if counts:
            others = [-scale * squared_euclidean(x, p) for z, p in enumerate(proxies) if include_positive or z != y]
            values.append(scale * squared_euclidean(x, proxies[y]) + log_sum_exp(others))
    return mean(values)


def proxy_anchor(embeddings, labels, proxies, where, delta, alpha):
    pulls, pushes = [], []
    for c, proxy in enumerate(proxies):
        pull, push = [], []
        for x, y, counts in zip(embeddings, labels, where, strict=True):
            if counts and y == c:
                pull.append(math.exp(-alpha * (cosine(x, proxy) - delta)))
            elif counts:
                push.append(math.exp(alpha * (cosine(x, proxy) + delta)))
        if pull:
            pulls.append(math.log(1 + sum(pull)))
        pushes.append(math.log(1 + sum(push)))
    return mean(pulls) + mean(pushes)


def arcface(embeddings, labels, weights, where, m, s):
    def target(cos):
        theta = math.acos(min(1.0, max(-1.0, cos)))
        return math.cos(theta + m) if theta <= math.pi - m else cos - m * math.sin(m)

    return _margin_softmax(embeddings, labels, weights, where, target, s)


def cosface(embeddings, labels, weights, where, m, s):
    return _margin_softmax(embeddings, labels, weights, where, lambda cos: cos - m, s)


def _margin_softmax(embeddings, labels, weights, where, target, s):
    values = []
    for x, y, counts in zip(embeddings, labels, where, strict=True):
        if counts:
            logits = [s * cosine(x, w) for w in weights]
            logits[y] = s * target(cosine(x, weights[y]))
            values.append(log_sum_exp(logits) - logits[y])
    return mean(values)


def soft_triple(embeddings, labels, centers, where, lam, delta, gamma):
    values = []
    for x, y, counts in zip(embeddings, labels, where, strict=True):
        if counts:
            logits = []
            for j, of_class in enumerate(centers):
                cosines = [cosine(x, w) for w in of_class]
                weights = [math.exp(each / gamma) for each in cosines]
                similarity = sum(w * each for w, each in zip(weights, cosines, strict=True)) / sum(weights)
                logits.append(lam * (similarity - (delta if j == y else 0)))
            values.append(log_sum_exp(logits) - logits[y])
    return mean(values)


def soft_triple_regularizer(centers):
    classes, k, _ = np.shape(centers)
    total = 0.0
    for of_class in centers:
        for s in range(k):
            for t in range(s):
                total += math.sqrt(max(0.0, 2 - 2 * cosine(of_class[s], of_class[t])))
    return total / (classes * k * (k - 1)) if k > 1 else 0.0
