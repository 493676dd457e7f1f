"""Miners as loops over anchors, positives and negatives; masks are nested lists or arrays of bool."""

import math


def masks(labels, where=None):
    """(positive, negative) [n][n] of a batch compared with itself."""
    n = len(labels)
    where = [True] * n if where is None else where
    positive = [[False] * n for _ in range(n)]
    negative = [[False] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            if where[i] and where[j]:
                if labels[i] != labels[j]:
                    negative[i][j] = True
                elif i != j:
                    positive[i][j] = True
    return positive, negative


def columns(row):
    return [j for j, selected in enumerate(row) if selected]


def triplets(positive, negative):
    """All (anchor, positive, negative)."""
    return [(a, p, n) for a in range(len(positive)) for p in columns(positive[a]) for n in columns(negative[a])]


def active_share(d, positive, negative, margin):
    everything = triplets(positive, negative)
    active = [1 for a, p, n in everything if d[a][p] - d[a][n] + margin > 0]
    return len(active) / len(everything) if everything else 0.0


def one_each(d, positive, negative, choose_positive, choose_negative):
    """{anchor: (positive, negative)} of the anchors that have both; `max` and `min` choose the far and the near."""
    chosen = {}
    for a in range(len(d)):
        ps, ns = columns(positive[a]), columns(negative[a])
        if ps and ns:
            chosen[a] = (choose_positive(ps, key=lambda j: d[a][j]), choose_negative(ns, key=lambda j: d[a][j]))
    return chosen


def easy_positive_semi_hard(d, positive, negative):
    chosen = {}
    for a in range(len(d)):
        ps = columns(positive[a])
        if not ps:
            continue
        p = min(ps, key=lambda j: d[a][j])
        beyond = [j for j in columns(negative[a]) if d[a][j] > d[a][p]]
        if beyond:
            chosen[a] = (p, min(beyond, key=lambda j: d[a][j]))
    return chosen


def semi_hard(d, positive, negative, margin, fallback):
    """{(anchor, positive): negative}."""
    chosen = {}
    for a in range(len(d)):
        ns = columns(negative[a])
        for p in columns(positive[a]):
            beyond = [j for j in ns if d[a][j] > d[a][p]]
            within = [j for j in beyond if d[a][j] < d[a][p] + margin]
            if within:
                chosen[a, p] = min(within, key=lambda j: d[a][j])
            elif fallback and beyond:
                chosen[a, p] = min(beyond, key=lambda j: d[a][j])
            elif fallback and ns:
                chosen[a, p] = max(ns, key=lambda j: d[a][j])
    return chosen


def hardest_k(d, positive, negative, k):
    """[n] lists of (positive, negative), hardest first."""
    chosen = [[] for _ in d]
    for a, p, n in sorted(triplets(positive, negative), key=lambda t: d[t[0]][t[2]] - d[t[0]][t[1]]):
        if len(chosen[a]) < k:
            chosen[a].append((p, n))
    return chosen


def negative_angle(a, p, n):
    """The angle at n of the right-angled triangle (n, centre of a and p, half their distance), in degrees."""
    side = math.sqrt(sum((x - y) ** 2 for x, y in zip(a, p, strict=True)))
    to_centre = math.sqrt(sum((z - (x + y) / 2) ** 2 for x, y, z in zip(a, p, n, strict=True)))
    return math.degrees(math.atan2(side, 2 * to_centre)) if side > 0 else 0.0


def angular(anchors, others, positive, negative, angle):
    """{(anchor, positive): [(angle, negative), ...]} of the angles above the bound, widest first."""
    chosen = {}
    for a, p, n in triplets(positive, negative):
        at_n = negative_angle(anchors[a], others[p], others[n])
        if at_n > angle:
            chosen.setdefault((a, p), []).append((at_n, n))
    return {pair: sorted(found, reverse=True) for pair, found in chosen.items()}


def distance_weights(d, negative, dimension, cutoff, nonzero_loss_cutoff):
    """[n][m] probabilities of the negatives; a row of zeros where none is near enough."""
    rows = []
    for a in range(len(d)):
        weights = [0.0] * len(d[a])
        for n in columns(negative[a]):
            if d[a][n] < nonzero_loss_cutoff:
                x = max(d[a][n], cutoff)
                weights[n] = 1 / (x ** (dimension - 2) * (1 - x**2 / 4) ** ((dimension - 3) / 2))
        total = sum(weights)
        rows.append([w / total if total else 0.0 for w in weights])
    return rows


def violating_pairs(d, positive, negative, margin):
    """The set of (anchor, other) that stand in a triplet with d_ap + margin > d_an."""
    found = set()
    for a, p, n in triplets(positive, negative):
        if d[a][p] + margin > d[a][n]:
            found |= {(a, p), (a, n)}
    return found


def hardest_pairs(d, positive, negative, k):
    chosen = set()
    for a in range(len(d)):
        far = sorted(columns(positive[a]), key=lambda j: -d[a][j])[:k]
        near = sorted(columns(negative[a]), key=lambda j: d[a][j])[:k]
        chosen |= {(a, j) for j in far + near}
    return chosen


def limit_hardness(d, positive, negative, negatives, positives):
    """(positive, negative) pairs (anchor, other) that are left."""
    near, far = set(), set()
    for a in range(len(d)):
        ps = sorted(columns(positive[a]), key=lambda j: d[a][j])
        ns = sorted(columns(negative[a]), key=lambda j: -d[a][j])
        near |= {(a, j) for j in ps[: max(1, round(positives * len(ps)))]}
        far |= {(a, j) for j in ns[: max(1, round(negatives * len(ns)))]}
    return near, far


class Memory:
    """The last `size` things pushed, each in the slot that a ring gives it."""

    def __init__(self, size):
        self.slots = [None] * size
        self.next = 0

    def push(self, embeddings, labels, items, where):
        for embedding, label, item, counts in zip(embeddings, labels, items, where, strict=True):
            if counts:
                self.slots[self.next] = (list(embedding), label, item)
                self.next = (self.next + 1) % len(self.slots)

    def lookup(self, labels, items, where):
        positive = [[False] * len(self.slots) for _ in labels]
        negative = [[False] * len(self.slots) for _ in labels]
        for i, (label, item) in enumerate(zip(labels, items, strict=True)):
            for j, slot in enumerate(self.slots):
                if where[i] and slot is not None and slot[2] != item:
                    (positive if slot[1] == label else negative)[i][j] = True
        return positive, negative
