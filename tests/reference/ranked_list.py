"""Ranked list loss, anchor by anchor, in float64; returns the terms that the mean is over."""

import math

from reference.distances import euclidean
from reference.softmax import negatives, positives


def ranked_list(
    embeddings, labels, where, alpha, margin, positive_temperature, negative_temperature, imbalance, weights_at=None
):
    """The weights are those of the embeddings `weights_at`, so that differences can leave them constant."""
    weights_at = embeddings if weights_at is None else weights_at
    values = []
    for a in range(len(labels)):
        if not where[a]:
            continue
        pull, push = [], []
        for p in positives(a, labels, where):
            now = euclidean(weights_at[a], weights_at[p]) - (alpha - margin)
            if now > 0:
                violation = euclidean(embeddings[a], embeddings[p]) - (alpha - margin)
                pull.append((positive_temperature * now, violation))
        for n in negatives(a, labels, where):
            now = alpha - euclidean(weights_at[a], weights_at[n])
            if now > 0:
                violation = alpha - euclidean(embeddings[a], embeddings[n])
                push.append((negative_temperature * now, violation))
        values.append((1 - imbalance) * weighted_mean(pull) + imbalance * weighted_mean(push))
    return values


def weighted_mean(pairs):
    """Mean of the values of (logarithm of the weight, value) pairs; 0 without any."""
    if not pairs:
        return 0.0
    largest = max(log_weight for log_weight, _ in pairs)
    weights = [math.exp(log_weight - largest) for log_weight, _ in pairs]
    return sum(weight * value for weight, (_, value) in zip(weights, pairs, strict=True)) / sum(weights)
