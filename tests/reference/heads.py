"""Logits of one pair of embeddings, one component at a time, from a head's parameters."""

import itertools
import math

from reference import distances


def weighted_l1(params, a, b):
    logit = float(params["bias"])
    for weight, x, y in zip(params["weight"], a, b, strict=True):
        logit += weight * abs(x - y)
    return logit


def binary(params, a, b):
    values = [abs(x - y) for x, y in zip(a, b, strict=True)]
    layer = 0
    while f"hidden_weight_{layer}" in params:
        weights, biases = params[f"hidden_weight_{layer}"], params[f"hidden_bias_{layer}"]
        units = []
        for unit, bias in enumerate(biases):
            total = bias + sum(value * weights[k][unit] for k, value in enumerate(values))
            units.append(max(total, 0.0))
        values = units
        layer += 1
    return float(params["bias"]) + sum(weight * value for weight, value in zip(params["weight"], values, strict=True))


def four_feature(params, a, b):
    logit = float(params["bias"])
    for weight, x, y in zip(params["weight"], a, b, strict=True):
        features = [x * y, x + y, abs(x - y), (x - y) ** 2]
        output = float(params["output_bias"])
        for unit, bias in enumerate(params["hidden_bias"]):
            total = bias + sum(feature * params["hidden_weight"][f][unit] for f, feature in enumerate(features))
            output += params["output_weight"][unit] * max(total, 0.0)
        logit += weight * output
    return logit


def mahalanobis(params, a, b):
    weight = params["weight"]
    logit = float(params["bias"])
    for k in range(len(a)):
        for q in range(len(a)):
            matrix = sum(weight[k][r] * weight[q][r] for r in range(len(weight[0])))
            logit -= (a[k] - b[k]) * matrix * (a[q] - b[q])
    return logit


def bilinear(params, a, b, symmetric=True):
    weight = params["weight"]
    logit = float(params["bias"])
    for k, x in enumerate(a):
        for q, y in enumerate(b):
            logit += x * y * ((weight[k][q] + weight[q][k]) / 2 if symmetric else weight[k][q])
    return logit


def distance(params, a, b, distance="euclidean"):
    value = getattr(distances, distance)(a, b)
    nearer = float(params["threshold"]) - value
    return math.exp(params["log_scale"]) * (-nearer if distance == "dot" else nearer)


def aligned(params, a, b, rows=3, columns=3, reach=1):
    """Place by place, looking at every place of the other map that is near enough."""
    a, b = (x.reshape(rows, columns, -1) for x in (a, b))
    mean = (_best_matches(a, b, reach) + _best_matches(b, a, reach)) / 2
    return math.exp(params["log_scale"]) * (mean - float(params["threshold"]))


def _best_matches(a, b, reach):
    total, lengths = 0.0, 0.0
    places = [(y, x) for y in range(a.shape[0]) for x in range(a.shape[1])]
    for y, x in places:
        matches = []
        beyond = (range(-reach, side + reach) for side in a.shape[:2])
        for v, u in itertools.product(*beyond):
            if abs(v - y) + abs(u - x) > reach:
                continue
            product = sum(a[y, x] * b[v, u]) if (v, u) in places else 0.0  # nothing beyond the edge: no likeness
            norms = math.sqrt(sum(a[y, x] ** 2) * sum(b[v, u] ** 2)) if (v, u) in places else 1.0
            matches.append(product / norms)
        length = math.sqrt(sum(a[y, x] ** 2))
        total += length * max(matches)
        lengths += length
    return total / lengths
