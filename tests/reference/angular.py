"""Angular loss, term by term, in float64; returns the terms that the mean is over."""

import math

from reference.distances import dot
from reference.softmax import each_positive, log_sum_exp, negatives, positives


def angular(embeddings, labels, where, alpha):
    t2 = math.tan(math.radians(alpha)) ** 2
    values = []
    for a in range(len(labels)):
        for p in positives(a, labels, where):
            middle = [x + y for x, y in zip(embeddings[a], embeddings[p], strict=True)]
            near = 2 * (1 + t2) * dot(embeddings[a], embeddings[p])
            terms = [4 * t2 * dot(middle, embeddings[n]) - near for n in negatives(a, labels, where)]
            values.append(log_sum_exp([0.0, *terms]))
    return values


def angular_n_pair(embeddings, labels, where, alpha, angular_weight):
    n_pair = each_positive(dot, embeddings, labels, where)
    both = zip(n_pair, angular(embeddings, labels, where, alpha), strict=True)
    return [x + angular_weight * y for x, y in both]
