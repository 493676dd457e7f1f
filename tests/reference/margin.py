"""Margins of pairs, pair by pair, in float64."""

import math

from reference.distances import euclidean
from reference.pair import balanced
from reference.softmax import cosine, log_sum_exp, negatives, positives


def margin(embeddings, labels, where, alpha, beta, active_only):
    terms = []
    for a in range(len(labels)):
        for p in positives(a, labels, where):
            for n in negatives(a, labels, where):
                terms.append(max(0.0, alpha + euclidean(embeddings[a], embeddings[p]) - beta))
                terms.append(max(0.0, alpha + beta - euclidean(embeddings[a], embeddings[n])))
    return [term for term in terms if term > 0] if active_only else terms


def tuplet_margin(embeddings, labels, where, m, s):
    values = []
    for a in range(len(labels)):
        for p in positives(a, labels, where):
            own = math.cos(math.acos(cosine(embeddings[a], embeddings[p])) - m)
            terms = [s * (cosine(embeddings[a], embeddings[n]) - own) for n in negatives(a, labels, where)]
            values.append(log_sum_exp([0.0, *terms]))
    return values


def intra_pair_variance(embeddings, labels, where, pos_eps, neg_eps, balance):
    near, far = [], []
    for a in range(len(labels)):
        near += [cosine(embeddings[a], embeddings[p]) for p in positives(a, labels, where)]
        far += [cosine(embeddings[a], embeddings[n]) for n in negatives(a, labels, where)]
    mean_near, mean_far = sum(near) / max(len(near), 1), sum(far) / max(len(far), 1)
    values = [max(0.0, (1 - pos_eps) * mean_near - s) ** 2 for s in near]
    values += [max(0.0, s - (1 + neg_eps) * mean_far) ** 2 for s in far]
    return balanced(values, [True] * len(near) + [False] * len(far), balance)
