"""Every public loss with invalid labels, masks and reductions, and with an empty batch."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import losses, mining

N, CLASSES = 6, 3
LABELS = np.array([0, 1, 0, 2, 1, 0])
SAME = np.array([True, False, True, False, False, True])
WHERE = np.array([True, True, True, False, True, True])
RNG = np.random.default_rng(0)
POINTS = jnp.asarray(RNG.normal(size=(4, N, 4)), jnp.float32)
OF_CLASSES = {
    "proxies": RNG.normal(size=(CLASSES, 4)).astype(np.float32),
    "weights": RNG.normal(size=(CLASSES, 4)).astype(np.float32),
    "centers": RNG.normal(size=(CLASSES, 2, 4)).astype(np.float32),
}
ITEMS = {
    **dict.fromkeys(("embeddings", "anchors", "anchor", "a"), POINTS[0]),
    **dict.fromkeys(("positives", "positive", "other", "b"), POINTS[1]),
    "negative": POINTS[2],
    "other_negative": POINTS[3],
    **dict.fromkeys(("distances", "logits", "similarities"), POINTS[0, :, 0] + 1),
    "labels": LABELS,
    "same": SAME,
}


def parameters(name):
    return inspect.signature(getattr(losses, name)).parameters


def given(name, n=N, **other):
    """The arguments of a loss that have no default, and its labels: the first `n` items."""
    values = {key: value[:n] for key, value in ITEMS.items()} | OF_CLASSES | other
    if "teacher_logits" in parameters(name):
        values |= {"logits": POINTS[0, :n], "teacher_logits": POINTS[1, :n]}
    wanted = [key for key, p in parameters(name).items() if p.default is p.empty or key in ("labels", "same")]
    return {key: values[key] for key in wanted}


def of(*keys):
    return [name for name in losses.__all__ if set(keys) <= set(parameters(name))]


def taken(name, **options):
    if "teacher_logits" in parameters(name) and "where" in options:
        options["where"] = jnp.tile(options["where"], (4, 1)).T  # of pairs, not of items
    return getattr(losses, name)(**given(name), **options)


ON_LABELS, ON_CLASSES = of("labels"), [name for name in of("labels") if set(OF_CLASSES) & set(parameters(name))]
ON_BATCHES = [name for name in ON_LABELS if name not in ON_CLASSES]
ON_SAME, REDUCED = of("same"), of("reduce_fn")


def value_and_gradient(name, **values):
    """Under `jit`, of the first argument; `values` are traced."""
    fixed = {key: value for key, value in given(name).items() if key not in values}
    first = next(iter(fixed))
    x = jnp.asarray(fixed.pop(first))

    def loss(x, values):
        return getattr(losses, name)(**{first: x}, **fixed, **values)

    return jax.jit(jax.value_and_grad(loss))(x, values)


def test_the_tables_name_all_losses():
    assert set(losses.__all__) == {
        *ON_LABELS,
        *ON_SAME,
        *of("anchor"),
        *of("embeddings"),
        *of("centers"),
        *of("teacher_logits"),
    }
    assert {"arcface", "soft_triple"} <= set(ON_CLASSES) and {"circle", "n_pair_mc"} <= set(ON_BATCHES)


@pytest.mark.parametrize("name", ON_LABELS)
def test_labels_that_are_not_whole_numbers_are_refused(name):
    for labels in (LABELS.astype(np.float32), LABELS / 2, LABELS.astype(str)):
        with pytest.raises(ValueError, match="labels: found .*whole number"):
            getattr(losses, name)(**given(name, labels=labels))
    with pytest.raises(ValueError, match="labels: found float32"):
        value_and_gradient(name, labels=LABELS.astype(np.float32))


@pytest.mark.sweep
@pytest.mark.parametrize("name", ON_BATCHES)
def test_labels_that_agree_in_their_lower_32_bits_stay_distinct(name):
    """Their lower 32 bits alone would make one class of them."""
    wide = {"int64": LABELS.astype(np.int64) << 32, "uint64": LABELS.astype(np.uint64) << np.uint64(40)}

    def each(points):
        first = next(iter(given(name)))
        return [getattr(losses, name)(**given(name, labels=x) | {first: points}) for x in (LABELS, *wide.values())]

    expected, *values = jax.jit(each)(POINTS[0])
    assert expected != 0
    np.testing.assert_array_equal(values, [expected] * 2)


def test_wide_labels_stay_distinct_without_jit():
    wide = LABELS.astype(np.int64) << 32
    losses_of = [losses.batch_all_triplet(POINTS[0], labels) for labels in (LABELS, wide)]
    assert losses_of[0] > 0
    np.testing.assert_allclose(*losses_of, rtol=1e-6)
    for ours, theirs in zip(*(jax.tree.leaves(mining.candidates(x)) for x in (LABELS, wide)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ON_CLASSES)
@pytest.mark.parametrize("label", [-1, CLASSES, 2**32], ids=["below", "beyond", "wide"])
def test_labels_outside_the_classes_are_refused(name, label):
    labels = LABELS.astype(np.int64)
    labels[3] = label
    with pytest.raises(ValueError, match=f"labels: found {label}, but there are 3 classes.* 0 to 2"):
        getattr(losses, name)(**given(name, labels=labels))
    # What takes no part may have any label.
    left_out = getattr(losses, name)(**given(name, labels=labels), where=WHERE)
    np.testing.assert_allclose(left_out, taken(name, where=WHERE), rtol=1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ON_CLASSES)
def test_labels_outside_the_classes_give_nan_under_jit(name):
    labels = np.where(np.arange(N) == 3, CLASSES, LABELS)
    value, _ = value_and_gradient(name, labels=labels)
    assert np.isnan(value)
    value, gradient = value_and_gradient(name, labels=labels, where=WHERE)
    np.testing.assert_allclose(value, taken(name, where=WHERE), rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ON_SAME)
def test_same_must_be_0_or_1(name):
    for wrong in (np.where(SAME, 1, -1), np.where(SAME, 1, 0.5), np.where(SAME, np.nan, 0), np.where(SAME, 2, 1)):
        with pytest.raises(ValueError, match="same: found .*1 for the same identity"):
            getattr(losses, name)(**given(name, same=wrong))
    for right in (SAME.astype(int), SAME.astype(np.float32)):
        np.testing.assert_array_equal(getattr(losses, name)(**given(name, same=right)), taken(name))
    padded = np.where(WHERE, SAME, -1)
    np.testing.assert_array_equal(
        getattr(losses, name)(**given(name, same=padded), where=WHERE), taken(name, where=WHERE)
    )


@pytest.mark.parametrize("name", ON_SAME)
def test_same_other_than_0_or_1_gives_nan_under_jit(name):
    value, _ = value_and_gradient(name, same=np.where(WHERE, SAME, -1))
    assert np.isnan(value)
    value, gradient = value_and_gradient(name, same=np.where(WHERE, SAME, -1), where=WHERE)
    np.testing.assert_allclose(value, taken(name, where=WHERE), rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.sweep
@pytest.mark.parametrize("name", REDUCED)
def test_reductions(name):
    """NumPy's mean and sum equal JAX's, over the selected values; other functions are refused: the zeros of values left
    out would count."""
    where = {"where": WHERE} if "where" in parameters(name) else {}
    functions = (jnp.mean, np.mean, jnp.sum, np.sum)
    values = jax.jit(lambda: [taken(name, reduce_fn=f, **where) for f in functions])()
    assert values[0] == values[1] and values[2] == values[3] and values[0] != 0
    for wrong in (jnp.max, jnp.median, "mean"):
        with pytest.raises(ValueError, match="reduce_fn: found .*expected jnp.mean, jnp.sum or None"):
            jax.eval_shape(functools.partial(taken, name, reduce_fn=wrong))


@pytest.mark.sweep
@pytest.mark.parametrize("name", of("where"))
def test_weights_are_refused_as_a_mask(name):
    with pytest.raises(ValueError, match="where: found float32, but it is a mask"):
        jax.eval_shape(functools.partial(taken, name), where=WHERE.astype(np.float32))
    whole = jax.jit(lambda: [taken(name, where=where) for where in (WHERE, 2 * WHERE.astype(int))])()
    assert whole[0] == whole[1]


# What is lost where only one kind of pair exists; all other batch losses give 0 there.
ON_EACH_KIND = {*(name for name in ON_BATCHES if name.startswith("batch_")), "multi_similarity", "ranked_list"}
ON_EACH_KIND |= {"intra_pair_variance", "vicreg"}
ON_EACH_KIND -= {"batch_all_triplet", "batch_hard_triplet"}


@pytest.mark.sweep
@pytest.mark.parametrize("name", [name for name in ON_BATCHES if name != "n_pair_mc"])
def test_batches_of_one_class_and_of_as_many_classes_as_items(name):
    # Of length 1/2, so that different pairs violate the margins.
    points = POINTS[0] / jnp.linalg.norm(POINTS[0], axis=1, keepdims=True) / 2
    labels = {"one": np.zeros(N, int), "each": np.arange(N)}
    loss = functools.partial(getattr(losses, name), points)
    one, each = jax.jit(lambda: [loss(x) for x in labels.values()])()
    assert (one > 0) == (name in ON_EACH_KIND | {"supervised_contrastive"}) and (one > 0 or one == 0)
    assert (each > 0) == (name in ON_EACH_KIND) and (each > 0 or each == 0)


@pytest.mark.sweep
@pytest.mark.parametrize("name", of())
def test_no_items(name):
    """The loss of nothing is 0, and its values are as many as there are items or pairs."""
    loss, full = getattr(losses, name), given(name)
    empty = given(name, 0)
    reductions = (jnp.mean, jnp.sum) if "reduce_fn" in parameters(name) else ()
    for f in reductions:
        value, gradient = jax.jit(jax.value_and_grad(lambda values, f=f: loss(**(empty | values), reduce_fn=f)))(
            {key: jnp.asarray(value) for key, value in empty.items() if value.dtype == np.float32}
        )
        assert value == 0
        assert all(not np.any(x) for x in jax.tree.leaves(gradient))
    unreduced = {"reduce_fn": None} if reductions else {}
    shapes = [jax.eval_shape(functools.partial(loss, **x, **unreduced)).shape for x in (full, empty)]
    assert shapes[1] == tuple(0 if size == N else size for size in shapes[0])
    np.testing.assert_array_equal(np.zeros(shapes[1]), loss(**empty, **unreduced) if shapes[1] else 0)
