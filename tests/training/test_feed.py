"""However its data comes, a run gives the same numbers: resident, several steps at once, or read on the way."""

import functools

import jax
import numpy as np
import optax
import pytest

from siamjax import augment, encoders, heads, parallel, sampling
from siamjax.data import Images
from siamjax.training import feed, objectives, state
from siamjax.training.step import TrainingData, train_step

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (48, 12, 12, 1), np.uint8)
INDEX = sampling.grid_index(groups=2, labels=4, images=6)
SAMPLE = functools.partial(sampling.identities, count=4, per_identity=4, per_group=4)
MODEL = state.Model(encoders.make("conv4", 4, 8, "float32", axis_name=parallel.AXIS), heads.WeightedL1())
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
KEY = jax.random.key(3)


def step(sample, fetch, **changed):
    return functools.partial(
        train_step,
        model=MODEL,
        sample=sample,
        fetch=fetch,
        augment=functools.partial(augment.affine, probability=0.5, rotation=10.0, shear=0.3, scale=0.2, shift=0.05),
        objective=functools.partial(functools.partial(objectives.cross_entropy, across_groups=False), MODEL.head),
        optimizer=OPTIMIZER,
        **changed,
    )


def start():
    return parallel.replicate(state.create(MODEL, jax.random.key(0), IMAGES.shape[1:], OPTIMIZER))


@pytest.fixture(scope="module")
def lying():
    data = TrainingData(index=INDEX, images=IMAGES)
    return feed.resident(step(SAMPLE, lambda key, images, item: images[item]), data, KEY)


@pytest.fixture(scope="module")
def expected(lying):
    """States and metrics after each of six steps."""
    after, current = [], start()
    for _ in range(6):
        current, metrics = lying(current, 1)
        after.append((parallel.first(current), parallel.first(metrics)))
    return after


def stream(images, first):
    return feed.streamed(step(feed.given_batch, feed.given_images), SAMPLE, INDEX, images, KEY, first, 6)


@pytest.mark.parametrize("kind", ["array", "read"])
def test_streamed_images_give_the_numbers_of_resident_ones_to_the_bit(expected, kind):
    read = []

    def fetch(numbers):
        read.append(len(numbers))
        return IMAGES[numbers]

    streamed = stream(IMAGES if kind == "array" else Images(fetch, IMAGES.shape), 0)
    current = start()
    for wanted in expected:
        current, metrics = streamed(current, 1)
        jax.tree.map(np.testing.assert_array_equal, (parallel.first(current), parallel.first(metrics)), wanted)
    assert kind == "array" or read == [16] * 6


def test_a_stream_goes_on_from_any_step(expected):
    streamed = stream(IMAGES, 4)
    current, metrics = streamed(parallel.replicate(expected[3][0]), 2)
    jax.tree.map(np.testing.assert_array_equal, (parallel.first(current), parallel.first(metrics)), expected[5])


def test_an_image_that_cannot_be_read_stops_the_run_with_its_own_error(expected):
    """At the step that needs it; those before it are taken."""
    read = []

    def broken(numbers):
        read.append(numbers)
        if len(read) == 3:
            raise OSError("3.png is damaged")
        return IMAGES[numbers]

    streamed, current = stream(Images(broken, IMAGES.shape), 3), parallel.replicate(expected[2][0])
    taken = 3
    with pytest.raises(OSError, match="3.png is damaged"):
        while taken < 6:
            current, _ = streamed(current, 1)
            taken += 1
    jax.tree.map(np.testing.assert_array_equal, parallel.first(current), expected[taken - 1][0])


def test_several_steps_at_once_are_the_same_steps(lying, expected):
    current, metrics = lying(start(), 6)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, (parallel.first(current), parallel.first(metrics)), expected[5])


def test_only_identities_that_are_variants_are_varied(expected):
    """`with_variants` numbers them from 8 on; before, all is as it was."""
    first = expected[0][0]
    index = sampling.with_variants(INDEX)
    assert index.images.shape == (16,) and index.labels.tolist() == [8, 8]
    losses = {}
    for known, tables in ((8, INDEX), (0, INDEX), (8, index)):
        data = TrainingData(index=tables, images=IMAGES)
        resident = feed.resident(step(SAMPLE, lambda key, images, item: images[item], known=known), data, KEY)
        current, metrics = resident(start(), 1)
        losses[known, tables is index] = float(parallel.first(metrics)["loss"])
        if (known, tables is index) == (8, False):
            jax.tree.map(
                functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), parallel.first(current), first
            )
    assert len({round(loss, 5) for loss in losses.values()}) == 3
