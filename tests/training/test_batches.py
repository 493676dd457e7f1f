"""However its data is fed, a run gives the same numbers: resident, several steps at once, or streamed."""

import functools

import jax
import numpy as np
import optax
import pytest

from siamjax import augment, encoders, heads, parallel, sampling
from siamjax.data import Images
from siamjax.training import batches, objectives, state
from siamjax.training.step import stepper, update

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (48, 12, 12, 1), np.uint8)
INDEX = sampling.grid_index(groups=2, labels=4, images=6)
SAMPLE = functools.partial(sampling.identities, count=4, per_identity=4, per_group=4)
MODEL = state.Model(encoders.make("conv4", 4, 8, "float32", axis_name=parallel.AXIS), heads.WeightedL1())
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
KEY = jax.random.key(3)


DISTORT = functools.partial(augment.affine, probability=0.5, rotation=10.0, shear=0.3, scale=0.2, shift=0.05)
UPDATE = functools.partial(
    update,
    model=MODEL,
    objective=objectives.make("cross_entropy", MODEL.head, across_groups=False),
    optimizer=OPTIMIZER,
)


def start():
    return parallel.replicate(state.create(MODEL, jax.random.key(0), IMAGES.shape[1:], OPTIMIZER))


def stored(index=INDEX):
    fetch = lambda key, images, item: images[item]  # noqa: E731
    return stepper(UPDATE, batches.resident(SAMPLE, fetch, DISTORT, index=index, source=IMAGES, images=16), KEY)


@pytest.fixture(scope="module")
def resident():
    return stored()


@pytest.fixture(scope="module")
def expected(resident):
    """States and metrics after each of six steps."""
    after, current = [], start()
    for number in range(6):
        current, metrics = resident(current, number, 1)
        after.append((parallel.first(current), parallel.first(metrics)))
    return after


def stream(images, first):
    streamed = batches.streamed(SAMPLE, DISTORT, index=INDEX, read=images, images=16, key=KEY, first=first, last=6)
    return stepper(UPDATE, streamed, KEY)


@pytest.mark.parametrize("kind", ["array", "read"])
def test_streamed_batches_are_bit_identical_to_resident_ones(expected, kind):
    read = []

    def fetch(numbers):
        read.append(len(numbers))
        return IMAGES[numbers]

    streamed = stream(IMAGES if kind == "array" else Images(fetch, IMAGES.shape), 0)
    current = start()
    for number, step in enumerate(expected):
        current, metrics = streamed(current, number, 1)
        jax.tree.map(np.testing.assert_array_equal, (parallel.first(current), parallel.first(metrics)), step)
    assert kind == "array" or read == [16] * 6


def test_a_stream_resumes_from_any_step(expected):
    streamed = stream(IMAGES, 4)
    current, metrics = streamed(parallel.replicate(expected[3][0]), 4, 2)
    jax.tree.map(np.testing.assert_array_equal, (parallel.first(current), parallel.first(metrics)), expected[5])


def test_an_unreadable_image_stops_the_run_with_its_error(expected):
    """At the step that needs the image; the steps before it are taken."""
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
            current, _ = streamed(current, taken, 1)
            taken += 1
    jax.tree.map(np.testing.assert_array_equal, parallel.first(current), expected[taken - 1][0])


def test_several_steps_in_one_program_equal_single_steps(resident, expected):
    current, metrics = resident(start(), 0, 6)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, (parallel.first(current), parallel.first(metrics)), expected[5])


@pytest.mark.thorough
def test_only_variants_are_distorted(expected):
    """`with_variants` numbers variants from 8; the identities below stay unchanged."""
    first, doubled = expected[0][0], sampling.with_variants(INDEX)
    assert doubled.images.shape == (16,) and doubled.labels.tolist() == [8, 8]
    tables = {
        "no variants drawn": INDEX.replace(originals=np.int32(8)),
        "all are variants": INDEX.replace(originals=np.int32(0)),
        "doubled": doubled,
    }
    losses = {}
    for name, index in tables.items():
        current, metrics = stored(index)(start(), 0, 1)
        losses[name] = float(parallel.first(metrics)["loss"])
        if name == "no variants drawn":
            close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
            jax.tree.map(close, parallel.first(current), first)
    assert len({round(loss, 5) for loss in losses.values()}) == 3
