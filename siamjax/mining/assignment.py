"""Pairs for a long tail: hard negatives that are all different, and positives for all images that have one; on the
host.

M. Piotte: Whale Recognition Model, Kaggle humpback whale identification (2018);
https://www.kaggle.com/martinpiotte/whale-recognition-model-with-score-0-78563.
"""

from collections.abc import Callable

import numpy as np
import scipy.optimize


def derangement(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int [n]: for each image another of its identity, each the partner of exactly one; itself, if it is the only one.

    The images of an identity are put in random order, each with the next one, the last with the first.
    """
    order = np.lexsort([rng.random(len(labels)), labels])
    following = np.roll(order, -1)
    ordered = labels[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    starts = np.concatenate([[0], ends[:-1] + 1])
    following[ends] = order[starts]
    partner = np.empty(len(labels), int)
    partner[order] = following
    return partner


def hard_negatives(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    rounds: int,
    noise: float,
    block: int,
) -> np.ndarray:
    """For each image one of another identity with a high score; usually each is chosen once per round.

    Of all ways to give every image its own partner, a round takes the one with the highest sum of scores (linear
    assignment), so that no image is the negative of many. Images are split into random blocks and assigned within each,
    so that the whole matrix is never in memory.

    Args:
      score: (int [b], int [b]) -> scores float [b, b] of images against images, higher for more similar.
      labels: int [n], identities.
      rng: for the blocks and the noise.
      rounds: how many times each image gets a negative; never the same one twice while there are others.
      noise: largest number added to a score; large noise makes the choice random.
      block: images that are assigned to one another; at least 2.

    Returns:
      int [rounds, n], numbers of images.

    Raises:
      ValueError: all images are of one identity.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("all images are of one identity; negatives need another one")
    negatives = np.empty((rounds, len(labels)), int)
    blocks = np.array_split(rng.permutation(len(labels)), -(-len(labels) // block))
    for rows in blocks:
        scores = np.asarray(score(rows, rows), np.float64)
        # Larger than any scores and noise: the same identity is excluded, and a pair of an earlier round is the last
        # resort.
        worst = len(rows) * (np.ptp(scores) + noise + 1)
        same = labels[rows][:, None] == labels[rows][None, :]
        used = np.zeros_like(same)
        for number in range(rounds):
            preference = scores + noise * rng.random(scores.shape) - worst * used - len(rows) * rounds * worst * same
            row, column = scipy.optimize.linear_sum_assignment(preference, maximize=True)
            negatives[number, rows[row]] = rows[column]
            used[row, column] = True
    # Where an identity fills more than half of a block, some images remain: they get any other identity's.
    wrong = labels[negatives] == labels
    for number, image in np.argwhere(wrong):
        negatives[number, image] = rng.choice(np.flatnonzero(labels != labels[image]))
    return negatives


def pairs(partners: np.ndarray, negatives: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """int [steps, 2 × count]: the batches of one round; image i pairs with image i + count, the first half the same.

    Every image is in one different pair, some in two to fill the last batch; there are as many same pairs, in random
    order, from all images that have a partner.

    Args:
      partners: int [n], see `derangement`.
      negatives: int [n].
      count: pairs of a batch, even.
      rng: for the order.

    Raises:
      ValueError: no image has a partner.
    """
    paired = np.flatnonzero(partners != np.arange(len(partners)))
    if not len(paired):
        raise ValueError("no identity has two images; training needs two images of the same identity")
    each = count // 2
    steps = -(-len(negatives) // each)
    same = _cycled(paired, steps * each, rng)
    different = _cycled(np.arange(len(negatives)), steps * each, rng)
    parts = (same, different, partners[same], negatives[different])
    return np.concatenate([part.reshape(steps, each) for part in parts], axis=1).astype(np.int32)


def _cycled(values, length, rng):
    """`values` in random order, repeated up to `length` of them."""
    return np.concatenate([rng.permutation(values) for _ in range(-(-length // len(values)))])[:length]
