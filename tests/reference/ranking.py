"""Losses on the order of an anchor's positives, one at a time, in float64."""

import math

from reference.softmax import cosine, negatives, positives


def _shared(places, bins):
    """Histogram of places 0..bins, by the triangle about each node."""
    return [sum(max(0.0, 1 - abs(place - node)) for place in places) for node in range(bins + 1)]


def fast_ap(embeddings, labels, where, bins):
    values = []
    for a in range(len(labels)):
        kinds = positives(a, labels, where), negatives(a, labels, where)
        if not kinds[0]:
            continue
        near, far = (
            _shared([(2 - 2 * cosine(embeddings[a], embeddings[i])) * bins / 4 for i in kind], bins) for kind in kinds
        )
        total = 0.0
        for node in range(bins + 1):
            of_near, of_far = sum(near[: node + 1]), sum(far[: node + 1])
            if near[node] > 0:
                total += near[node] * of_near / (of_near + of_far)
        values.append(1 - total / len(kinds[0]))
    return values


def smooth_ap(embeddings, labels, where, temperature):
    def above(a, j, i):
        gap = (cosine(embeddings[a], embeddings[j]) - cosine(embeddings[a], embeddings[i])) / temperature
        return 1 / (1 + math.exp(-gap))

    values = []
    for a in range(len(labels)):
        near, far = positives(a, labels, where), negatives(a, labels, where)
        total = 0.0
        for i in near:
            rank = 1 + sum(above(a, j, i) for j in near if j != i)
            total += rank / (rank + sum(above(a, j, i) for j in far))
        if near:
            values.append(1 - total / len(near))
    return values


def histogram(embeddings, labels, where, bins):
    places = [[], []]
    for a in range(len(labels)):
        for kind, of in enumerate((positives, negatives)):
            places[kind] += [(1 + cosine(embeddings[a], embeddings[i])) * bins / 2 for i in of(a, labels, where)]
    near, far = ([x / max(len(of), 1) for x in _shared(of, bins)] for of in places)
    return sum(far[r] * sum(near[: r + 1]) for r in range(bins + 1))
