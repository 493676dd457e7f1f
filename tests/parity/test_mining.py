"""Miners against pytorch-metric-learning's, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mining as oracle

from siamjax import distances, mining

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

from pytorch_metric_learning import miners  # noqa: E402
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance  # noqa: E402

torch.set_num_threads(1)

LABELS = np.array([3, 7, 3, 5, 3, 50, 9, 3, 7, 5, 9, 3, 9, 5, 7, 3])
RNG = np.random.default_rng(0)
# Classes stand apart, but not all of them from all others: a miner that takes everything would not pass.
POINTS = 2 * RNG.normal(size=(51, 5))[LABELS] + RNG.normal(size=(16, 5)) * np.array([1.0, 0.3, 2.0, 0.7, 1.4])
UNIT = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
MARGIN = 0.3
ANGLE = 20


def theirs(miner):
    return [x.numpy() for x in miner(torch.tensor(POINTS), torch.tensor(LABELS))]


def euclidean_distance():
    return LpDistance(normalize_embeddings=False)


@functools.cache
def mined():
    """All miners of siamjax, in one program."""

    @jax.jit
    def mine(points, labels):
        d = distances.pairwise_euclidean(points, points)
        squared = distances.pairwise_squared_euclidean(points, points)
        return d, {
            "batch_hard": mining.batch_hard(d, labels, margin=MARGIN),
            "batch_easy": mining.batch_easy(d, labels, margin=MARGIN),
            "easy_positive": mining.easy_positive(d, labels),
            "easy_positive_semi_hard": mining.easy_positive(d, labels, semi_hard=True),
            "semi_hard": mining.semi_hard(d, labels, margin=MARGIN),
            "angular": mining.angular(squared, labels, k=16, angle=ANGLE),
            "multi_similarity": mining.multi_similarity(d, labels, epsilon=MARGIN),
            "multi_similarity_cosine": mining.multi_similarity(distances.pairwise_cosine(points, points), labels),
        }

    with jax.enable_x64(True):
        results = mine(jnp.asarray(POINTS), jnp.asarray(LABELS))
        return jax.tree.map(np.asarray, results)


def ours(name):
    result = mined()[1][name]
    return {t[:3] for t in zip(result.anchor, result.positive, result.negative, result.valid, strict=True) if t[3]}


@pytest.mark.parametrize(
    "name,miner",
    [
        ("batch_hard", miners.BatchHardMiner),
        ("batch_easy", functools.partial(miners.BatchEasyHardMiner, "easy", "easy")),
        ("easy_positive", functools.partial(miners.BatchEasyHardMiner, "easy", "hard")),
        ("easy_positive_semi_hard", functools.partial(miners.BatchEasyHardMiner, "easy", "semihard")),
    ],
)
def test_one_triplet_an_anchor(name, miner):
    indices = theirs(miner(distance=euclidean_distance()))
    a, p, n = indices if len(indices) == 3 else (indices[0], indices[1], indices[3])
    assert ours(name) == set(zip(a, p, n, strict=True))


def test_semi_hard_takes_the_nearest_of_their_semi_hard_negatives():
    d, results = mined()
    nearest = {}
    for a, p, n in zip(
        *theirs(miners.TripletMarginMiner(MARGIN, "semihard", distance=euclidean_distance())), strict=True
    ):
        if (a, p) not in nearest or d[a, n] < d[a, nearest[a, p]]:
            nearest[a, p] = n
    assert ours("semi_hard") == {(a, p, n) for (a, p), n in nearest.items()}
    violating = theirs(miners.TripletMarginMiner(MARGIN, "all", distance=euclidean_distance()))
    everything = oracle.triplets(*oracle.masks(LABELS))
    for name in ("semi_hard", "batch_hard", "batch_easy"):
        np.testing.assert_allclose(results[name].active_share, len(violating[0]) / len(everything), rtol=1e-12)


def test_angular_takes_the_widest_of_their_angles():
    widest = {}
    # Its distance is one of unit length, but it takes the embeddings at their own.
    angles = theirs(miners.AngularMiner(angle=ANGLE))
    for a, p, n in zip(*angles, strict=True):
        best = widest.get((a, p))
        if best is None or oracle.negative_angle(POINTS[a], POINTS[p], POINTS[n]) > best[0]:
            widest[a, p] = oracle.negative_angle(POINTS[a], POINTS[p], POINTS[n]), n
    assert ours("angular") == {(a, p, n) for (a, p), (_, n) in widest.items()}
    share = len(angles[0]) / len(oracle.triplets(*oracle.masks(LABELS)))
    assert 0.1 < share < 0.9
    np.testing.assert_allclose(mined()[1]["angular"].active_share, share, rtol=1e-12)


@pytest.mark.parametrize(
    "name,miner",
    [
        ("multi_similarity", functools.partial(miners.MultiSimilarityMiner, MARGIN, distance=euclidean_distance())),
        ("multi_similarity_cosine", functools.partial(miners.MultiSimilarityMiner, 0.1, distance=CosineSimilarity())),
    ],
)
def test_multi_similarity(name, miner):
    a1, p, a2, n = theirs(miner())
    result = mined()[1][name]
    assert set(zip(*np.nonzero(result.positive), strict=True)) == set(zip(a1, p, strict=True))
    assert set(zip(*np.nonzero(result.negative), strict=True)) == set(zip(a2, n, strict=True))
    positive, negative = oracle.masks(LABELS)
    assert 0 < len(p) < np.sum(positive) and 0 < len(n) < np.sum(negative)


def test_distance_weighted_draws_with_their_weights():
    torch.manual_seed(0)
    miner = miners.DistanceWeightedMiner(cutoff=0.6, nonzero_loss_cutoff=1.5)
    points, labels = torch.tensor(POINTS), torch.tensor(LABELS)  # Theirs brings them to unit length.
    their_counts = np.zeros((16, 16))
    for _ in range(1500):
        a, _, n = (x.numpy() for x in miner(points, labels))
        np.add.at(their_counts, (a, n), 1)
    d = distances.pairwise_euclidean(jnp.asarray(UNIT, jnp.float32), jnp.asarray(UNIT, jnp.float32))
    draw = functools.partial(mining.distance_weighted, dimension=5, k=4000, cutoff=0.6, nonzero_loss_cutoff=1.5)
    result = jax.jit(draw)(jax.random.key(0), d, jnp.asarray(LABELS))
    counts = np.zeros((16, 16))
    valid = np.asarray(result.valid)
    np.add.at(counts, (result.anchor[valid], result.negative[valid]), 1)
    np.testing.assert_array_equal(counts.any(axis=1), their_counts.any(axis=1))
    drawn = counts.any(axis=1)
    shares = [x[drawn] / x[drawn].sum(axis=1, keepdims=True) for x in (counts, their_counts)]
    np.testing.assert_allclose(*shares, atol=0.04)


STRATEGIES = [(p, n) for p in ("easy", "hard", "semihard", "all") for n in ("easy", "hard", "semihard", "all")]
STRATEGIES = [pair for pair in STRATEGIES if "semihard" not in pair or {"easy", "hard"} & set(pair)]


def test_easy_hard_by_all_strategies():
    def name(strategy):
        return strategy.replace("semihard", "semi_hard")

    @jax.jit
    def mine(points):
        d = distances.pairwise_euclidean(points, points)
        ranges = {"positive_range": (0.5, 4.0), "negative_range": (2.0, 9.0)}
        return [
            [mining.easy_hard(d, LABELS, positives=name(p), negatives=name(n), **x) for x in ({}, ranges)]
            for p, n in STRATEGIES
        ]

    with jax.enable_x64(True):
        mined = jax.tree.map(np.asarray, mine(jnp.asarray(POINTS)))
    allowed = {"allowed_pos_range": (0.5, 4.0), "allowed_neg_range": (2.0, 9.0)}
    for (p, n), pair in zip(STRATEGIES, mined, strict=True):
        for result, ranges in zip(pair, ({}, allowed), strict=True):
            a1, near, a2, far = theirs(miners.BatchEasyHardMiner(p, n, distance=euclidean_distance(), **ranges))
            assert set(zip(*np.nonzero(result.positive), strict=True)) == set(zip(a1, near, strict=True)), (p, n)
            assert set(zip(*np.nonzero(result.negative), strict=True)) == set(zip(a2, far, strict=True)), (p, n)


@pytest.mark.parametrize(
    "p,n", [("semi_hard", "semi_hard"), ("all", "semi_hard"), ("semi_hard", "all"), ("soft", "easy")]
)
def test_strategies_that_do_not_go_together_are_refused(p, n):
    with pytest.raises(ValueError, match="semi-hard ones|is not known; choose one of easy"):
        mining.easy_hard(jnp.zeros((2, 2)), jnp.array([0, 0]), positives=p, negatives=n)
