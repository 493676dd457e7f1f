import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mining as oracle

from siamjax import distances, mining

LABELS = np.array([3, 7, 3, -2, 3, 50, 3, 3, 7, -2, 9])
POINTS = np.random.default_rng(0).normal(size=(11, 4))
WHERE = np.arange(11) != 4


@jax.jit
def limit(negatives, positives):
    points = jnp.asarray(POINTS, jnp.float32)
    d = distances.pairwise_euclidean(points, points)
    found = mining.limit_hardness(d, jnp.asarray(LABELS), negatives=negatives, positives=positives, where=WHERE)
    return d, found, mining.batch_hard(d, found)


@pytest.mark.parametrize("negatives,positives", [(0.0, 0.0), (0.3, 1.0), (0.63, 0.4), (1.0, 0.7), (1.0, 1.0)])
def test_limited_candidates_equal_the_loop(negatives, positives):
    d, found, _ = jax.tree.map(np.asarray, limit(negatives, positives))
    near, far = oracle.limit_hardness(d, *oracle.masks(LABELS, WHERE), negatives, positives)
    assert set(zip(*np.nonzero(found.positive), strict=True)) == near
    assert set(zip(*np.nonzero(found.negative), strict=True)) == far


def test_triplets_get_harder_from_the_easiest_to_the_hardest():
    gaps = []
    for share in np.linspace(0, 1, 9):
        d, _, mined = limit(share, share)
        d_ap, d_an = mined.distances(d)
        gaps.append(np.where(mined.valid, d_ap - d_an, 0))
    assert np.all(np.diff(gaps, axis=0) >= 0)
    labels, where = jnp.asarray(LABELS), jnp.asarray(WHERE)
    for mined, (_, _, ends) in [
        (mining.batch_easy(d, labels, where=where), limit(0.0, 0.0)),
        (mining.batch_hard(d, labels, where=where), limit(1.0, 1.0)),
    ]:
        for name in ("positive", "negative"):
            np.testing.assert_array_equal(getattr(mined, name)[mined.valid], getattr(ends, name)[ends.valid])
        np.testing.assert_array_equal(mined.valid, ends.valid)


def test_schedule_rises_and_stays_constant():
    schedule = jax.jit(lambda step: mining.easy_to_hard(step, start=100, end=300, low=0.2, high=0.8))
    steps = [0, 100, 150, 200, 300, 10_000, 2**31 - 1]
    np.testing.assert_allclose([schedule(step) for step in steps], [0.2, 0.2, 0.35, 0.5, 0.8, 0.8, 0.8], rtol=1e-6)
    # A late, long schedule still moves at each step.
    start = 2**25
    late = [mining.easy_to_hard(start + i, start=start, end=start + 1000) for i in range(3)]
    np.testing.assert_allclose(late, [0, 0.001, 0.002], rtol=1e-6)
    with pytest.raises(ValueError, match="start=5, end=5"):
        mining.easy_to_hard(1, start=5, end=5)
