"""Every public loss: half precision is as accurate as its type allows, and NaN is never lost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import distances, losses

BATCH = (
    *(name for name in losses.__all__ if name.startswith("batch_") or name.endswith(("_triplet", "_structure"))),
    *("angular", "angular_n_pair", "info_nce", "n_pair", "ntxent", "ranked_list"),
    *("multi_similarity", "supervised_contrastive", "margin", "tuplet_margin", "intra_pair_variance", "fast_ap"),
    *("smooth_ap", "decoupled_contrastive", "ge2e", "nca"),
)
PAIR = ("contrastive", "double_margin_contrastive", "exponential_contrastive", "linear_contrastive", "pairwise_sigmoid")
PROXY = ("arcface", "cosface", "proxy_anchor", "proxy_nca", "soft_triple", "sphereface", "sub_center_arcface")
LOGITS = ("binary_cross_entropy", "balanced_binary_cross_entropy")


def on_batch(name, x, labels, **options):
    return getattr(losses, name)(x, labels, **options)


def on_numbers(name, x, labels, where=None, **options):
    """A loss on given pairs: each component of x, which makes many of them, is a distance."""
    same = jnp.broadcast_to(labels[:, None] % 2 == 0, x.shape)
    where = None if where is None else jnp.broadcast_to(where[:, None], x.shape)
    return getattr(losses, name)(jnp.abs(x), same, where=where, **options)


def on_points(name, x, labels, **options):
    points = jax.lax.stop_gradient(x[len(x) // 2 :, ::-1])
    points = points.reshape(-1, 2, x.shape[1]) if name in ("soft_triple", "sub_center_arcface") else points
    return getattr(losses, name)(x, labels, points, **options)


CALLS = {
    **{name: functools.partial(on_batch, name) for name in BATCH},
    **{name: functools.partial(on_numbers, name) for name in (*PAIR, "binary_cross_entropy")},
    **{name: functools.partial(on_points, name) for name in PROXY},
    "balanced_binary_cross_entropy": lambda x, labels, reduce_fn=jnp.mean, **options: on_numbers(
        "balanced_binary_cross_entropy", x, labels, **options
    ),
    "circle": functools.partial(losses.circle, gamma=300.0),
    "cosine_embedding": lambda x, labels, **options: losses.cosine_embedding(x, x[:, ::-1], labels % 2, **options),
    "histogram": lambda x, labels, where=None, reduce_fn=jnp.mean: losses.histogram(x, labels, where=where),
    "vicreg": lambda x, labels, where=None, reduce_fn=jnp.mean: losses.vicreg(x, labels, where=where),
    "n_pair_mc": lambda x, labels, **options: losses.n_pair_mc(x, x[:, ::-1], **options),
    "pairwise_snr_distance": lambda x, labels, where=None, reduce_fn=jnp.mean: whole(
        losses.pairwise_snr_distance(*chosen(where, x, x[:, ::-1])), reduce_fn
    ),
    "quadruplet": lambda x, labels, **options: losses.quadruplet(x, -x, x[:, ::-1], 2 * x, **options),
    "snr_distance": lambda x, labels, where=None, reduce_fn=jnp.mean: whole(
        losses.snr_distance(*chosen(where, x, x[:, ::-1])), reduce_fn
    ),
    "soft_triple_regularizer": lambda x, labels, where=None, reduce_fn=jnp.mean: losses.soft_triple_regularizer(
        chosen(where, x)[0].reshape(-1, 2, x.shape[1])
    ),
    "similarity_distillation": lambda x, labels, where=None, **options: losses.similarity_distillation(
        x, x[:, ::-1], where=None if where is None else jnp.broadcast_to(where[:, None], x.shape), **options
    ),
    "triplet_margin": lambda x, labels, **options: losses.triplet_margin(x, x / 2, x[:, ::-1], soft=True, **options),
    "zero_mean_regularizer": lambda x, labels, **options: losses.zero_mean_regularizer(x, **options),
}
each_loss = pytest.mark.parametrize("name", losses.__all__)


def chosen(where, *arrays):
    """For losses without `where`: without the items."""
    return [x if where is None else jnp.where(where[:, None], x, 1) for x in arrays]


def whole(values, reduce_fn):
    return values if reduce_fn is None else reduce_fn(values, dtype=jnp.float32)


def labels_of(n):
    return jnp.arange(n) // 4


def mean_of(name):
    """(x, where) -> mean loss in float32 and its gradient."""
    return jax.value_and_grad(lambda x, where: CALLS[name](x, labels_of(len(x)), where=where).astype(jnp.float32))


@functools.cache
def compiled(name):
    """(x, where) -> mean loss and its gradient; per-item values."""

    def all_of(x, where):
        return mean_of(name)(x, where), CALLS[name](x, labels_of(len(x)), where=where, reduce_fn=None)

    return jax.jit(all_of)


@pytest.mark.sweep
@each_loss
def test_half_precision_equals_single_precision_of_the_same_numbers(name):
    # Compiled in haste, for there are many.
    options = {"compiler_options": {"xla_backend_optimization_level": 0}}
    both = jax.jit(mean_of(name), **options)
    alone = jax.jit(lambda x, where: CALLS[name](x, labels_of(len(x)), where=where), **options)
    where = jnp.ones(264, bool)
    # More components than float16 can add up unit vectors of, and more pairs than it can count.
    x = np.random.default_rng(3).normal(size=(264, 256)) / (1 if name in PAIR else 16)
    for dtype in (jnp.float16, jnp.bfloat16):
        half = jnp.asarray(x, dtype)
        expected, slope = both(half.astype(jnp.float32), where)
        eps, largest = float(jnp.finfo(dtype).eps), np.abs(slope).max()
        assert np.isfinite(expected) and largest > 0
        if dtype == jnp.bfloat16:
            np.testing.assert_allclose(np.float32(alone(half, where)), expected, rtol=eps)
            continue
        value, gradient = both(half, where)
        assert gradient.dtype == dtype and slope.dtype == np.float32
        np.testing.assert_allclose(value, expected, rtol=eps)
        np.testing.assert_allclose(np.asarray(gradient, np.float32), slope, rtol=0, atol=8 * eps * largest)


def test_sums_and_counts_beyond_what_float16_holds():
    rng = np.random.default_rng(9)
    near = np.abs(rng.normal(size=(258, 16)))
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    # Labels are given, not closed over: XLA would take its time to fold them.
    for loss, x, labels in (
        (losses.ntxent, rng.normal(size=(512, 64)), np.arange(512) % 8),  # 32,256 pairs of about 8
        (losses.batch_linear_contrastive, near, np.arange(258)),  # 66,306 pairs
        (functools.partial(losses.circle, gamma=300.0), rng.normal(size=(128, 2)), np.arange(128) % 4),
        (losses.contrastive, np.ones(70_000), np.ones(70_000, bool)),
    ):
        half, both = jnp.asarray(x, jnp.float16), jax.jit(jax.value_and_grad(loss))
        value, gradient = both(half, labels)
        expected, _ = both(half.astype(jnp.float32), labels)
        assert value.dtype == jnp.float16 and np.any(np.asarray(gradient, np.float32) != 0)
        np.testing.assert_allclose(np.float32(value), expected, rtol=1e-3)


@pytest.mark.sweep
@each_loss
def test_nan_gives_nan_and_changes_no_other_value(name):
    good = np.random.default_rng(5).normal(size=(12, 6)).astype(np.float32)
    _, before = compiled(name)(good, jnp.ones(12, bool))
    # Distances and logits may be infinite; embeddings that are come of an overflow.
    for bad in (np.nan,) if name in (*PAIR, *LOGITS) else (np.nan, np.inf, -np.inf):
        x = good.copy()
        x[5, 2] = bad
        (value, _), values = compiled(name)(x, jnp.ones(12, bool))
        assert not np.isfinite(value), (value, bad)
        finite = np.isfinite(values)
        np.testing.assert_allclose(np.asarray(values)[finite], np.asarray(before)[finite], rtol=1e-4, atol=1e-5)
        if name in (*PAIR, "cosine_embedding", "triplet_margin", "quadruplet", "snr_distance", "cosface"):
            assert np.all(np.delete(finite, 5, axis=0))


@each_loss
def test_nan_outside_the_mask_changes_nothing(name):
    x = np.random.default_rng(6).normal(size=(12, 6)).astype(np.float32)
    where = np.arange(12) != 5
    (expected, slope), _ = compiled(name)(x, where)
    for bad in (np.nan, np.inf, 1e30):
        x[5] = bad
        (value, gradient), _ = compiled(name)(x, where)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(gradient[5], 0)


def test_an_overflow_does_not_give_a_loss_of_zero():
    x = 1e20 * np.random.default_rng(7).normal(size=(12, 6)).astype(np.float32)
    for name in ("batch_all_triplet", "batch_hard_triplet", "batch_contrastive", "lifted_structure", "ranked_list"):
        (value, _), _ = compiled(name)(x, jnp.ones(12, bool))
        assert not np.isfinite(value), name


def test_the_active_share_of_nan_is_nan():
    x = np.random.default_rng(8).normal(size=(12, 6)).astype(np.float32)
    x[5, 0] = np.nan
    for loss in (losses.batch_all_triplet, losses.batch_hard_triplet, losses.semi_hard_triplet):
        assert np.isnan(jax.jit(functools.partial(loss, has_aux=True))(x, labels_of(12))[1])


def test_tiny_and_large_vectors_have_their_cosine():
    for size, dtype in ((1e-20, jnp.float32), (1e-30, jnp.float32), (1e38, jnp.float32), (4e4, jnp.float16)):
        x = (size * jnp.asarray([[1.0, 0.5], [0.5, 1.0]])).astype(dtype)
        cosines = 1 - np.asarray(distances.pairwise_cosine(x, x), np.float32)
        np.testing.assert_allclose(cosines, [[1, 0.8], [0.8, 1]], atol=1e-3)
