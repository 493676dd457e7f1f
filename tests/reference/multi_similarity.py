"""Multi-similarity loss and its mining, anchor by anchor, in float64; returns the terms that the mean is over."""

from reference.softmax import cosine, log_sum_exp, negatives, positives


def multi_similarity(embeddings, labels, where, alpha, beta, base, epsilon=None):
    values = []
    for a in range(len(labels)):
        if not where[a]:
            continue
        near = [cosine(embeddings[a], embeddings[p]) for p in positives(a, labels, where)]
        far = [cosine(embeddings[a], embeddings[n]) for n in negatives(a, labels, where)]
        if epsilon is not None:
            near, far = mined(near, far, epsilon)
        pull = log_sum_exp([0.0] + [-alpha * (s - base) for s in near]) / alpha
        push = log_sum_exp([0.0] + [beta * (s - base) for s in far]) / beta
        values.append(pull + push)
    return values


def mined(near, far, epsilon):
    """The cosines of an anchor with its positives and negatives that the paper's mining leaves."""
    if not near or not far:
        return [], []
    return [s for s in near if s - epsilon < max(far)], [s for s in far if s + epsilon > min(near)]
