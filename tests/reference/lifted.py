"""Lifted structure losses, term by term, in float64; each returns the terms that the mean is over."""

from reference.distances import euclidean
from reference.softmax import log_sum_exp, negatives, positives


def lifted_structure(embeddings, labels, where, margin):
    values = []
    for i in range(len(labels)):
        for j in positives(i, labels, where):
            terms = [margin - euclidean(embeddings[i], embeddings[k]) for k in negatives(i, labels, where)]
            terms += [margin - euclidean(embeddings[j], embeddings[m]) for m in negatives(j, labels, where)]
            violation = max(0.0, log_sum_exp(terms) + euclidean(embeddings[i], embeddings[j]))
            values.append(violation**2 / 2)
    return values


def generalized_lifted_structure(embeddings, labels, where, margin):
    values = []
    for a in range(len(labels)):
        pull = [euclidean(embeddings[a], embeddings[p]) for p in positives(a, labels, where)]
        push = [margin - euclidean(embeddings[a], embeddings[n]) for n in negatives(a, labels, where)]
        if pull and push:
            values.append(max(0.0, log_sum_exp(pull) + log_sum_exp(push)))
    return values
