"""The training step gives the same numbers on any number of devices, in both batch modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from siamjax import augment, encoders, heads, parallel, sampling
from siamjax.data.dataset import Dataset
from siamjax.training import batches, objectives, state
from siamjax.training.step import stepper, update

MODES = ("pairs", "cross_entropy", "supervised_contrastive")
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
DISTORT = functools.partial(augment.affine, probability=0.5, rotation=10.0, shear=0.3, scale=0.2, shift=0.05)


@pytest.fixture(scope="module")
def dataset():
    """4 groups of 4 patterns with 6 noisy images of 16×16 pixels each."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(16, dtype=np.int32), 6)
    patterns = rng.uniform(size=(16, 4, 4)).repeat(4, axis=1).repeat(4, axis=2)
    images = (255 * (0.8 * patterns[label] + 0.2 * rng.uniform(size=(96, 16, 16)))).astype(np.uint8)[..., None]
    return Dataset(images, label, label // 4, np.tile(np.arange(6, dtype=np.int32), 16), ("a", "b", "c", "d"))


def make_step(mode):
    model = state.Model(encoders.make("conv4", 4, 8, "float32", axis_name=parallel.AXIS), heads.WeightedL1())
    objective = objectives.make(
        "cross_entropy" if mode == "pairs" else mode,
        model.head,
        mode="pairs" if mode == "pairs" else "identities",
        options=objectives.loss_options().get(mode),
        across_groups=False,
    )
    if mode == "pairs":
        sample = functools.partial(sampling.pairs, count=12, across_groups=False)
    else:
        sample = functools.partial(sampling.identities, count=8, per_identity=3, per_group=4)
    step = functools.partial(
        update,
        model=model,
        objective=objective,
        optimizer=OPTIMIZER,
    )
    return step, sample, state.create(model, jax.random.key(1), (16, 16, 1), OPTIMIZER)


def run(step, sample, start, dataset, devices, steps):
    devices = jax.devices()[:devices]
    made = batches.resident(
        sample,
        lambda key, images, item: images[item],
        DISTORT,
        index=sampling.make_index(dataset),
        source=dataset.images,
        images=24,
        devices=devices,
    )
    take, current = stepper(step, made, jax.random.key(7), devices), parallel.replicate(start, devices)
    history = []
    for number in range(steps):
        current, metrics = take(current, number, 1)
        history.append({name: np.asarray(value) for name, value in metrics.items()})
    return current, history


@pytest.fixture(scope="module")
def single_device(dataset):
    return functools.cache(lambda mode: run(*make_step(mode), dataset, devices=1, steps=3))


@pytest.mark.sweep
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("devices", [2, 8])
def test_numbers_do_not_depend_on_the_number_of_devices(dataset, single_device, mode, devices):
    expected_state, expected_history = single_device(mode)
    got_state, got_history = run(*make_step(mode), dataset, devices=devices, steps=3)
    for got, expected in zip(got_history, expected_history, strict=True):
        for name in expected:
            np.testing.assert_allclose(got[name], np.repeat(expected[name], devices), rtol=2e-4, err_msg=name)
    for got, expected in zip(jax.tree.leaves(got_state), jax.tree.leaves(expected_state), strict=True):
        got = np.asarray(got)
        np.testing.assert_allclose(got[0], np.asarray(expected)[0], rtol=2e-3, atol=2e-5)
        for replica in got[1:]:
            np.testing.assert_array_equal(replica, got[0])


@pytest.mark.parametrize("mode", ["pairs", "cross_entropy"])
def test_the_step_descends_the_loss_of_the_whole_batch(dataset, single_device, mode):
    """Compared with unsharded differentiation of the first batch; the second batch is a different one."""
    step, sample, start = make_step(mode)
    kept = step.keywords
    index = jax.tree.map(jnp.asarray, sampling.make_index(dataset))
    sample_key, _, augment_key = jax.random.split(jax.random.fold_in(jax.random.key(7), 0), 3)
    batch = jax.jit(sample)(sample_key, index)
    images = dataset.images[np.asarray(batch.item)].astype(np.float32) / 255
    images = jax.jit(DISTORT)(jax.random.split(augment_key, len(images)), images)
    encoder = kept["model"].encoder.clone(axis_name=None)

    group, label = np.asarray(batch.group), np.asarray(batch.label)

    @jax.jit
    @jax.value_and_grad
    def loss_of(params):
        variables = {"params": params["encoder"], "batch_stats": start.batch_stats}
        embeddings, _ = encoder.apply(variables, images, train=True, mutable=["batch_stats"])
        count = len(images)
        pairs = [(i, i + count // 2) for i in range(count // 2)]
        if mode == "cross_entropy":
            pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
            pairs = [(i, j) for i, j in pairs if group[i] == group[j]]
        first, second = np.transpose(pairs)
        same = (label[first] == label[second]).astype(np.float32)
        weights = same / same.sum() + (1 - same) / (1 - same).sum()
        logits = jnp.abs(embeddings[first] - embeddings[second]) @ params["head"]["weight"] + params["head"]["bias"]
        return jnp.sum(weights * jnp.logaddexp(0.0, jnp.where(same == 1, -logits, logits))) / 2

    loss, gradient = loss_of(start.params)
    _, history = single_device(mode)
    np.testing.assert_allclose(history[0]["loss"][0], loss, rtol=1e-5)
    np.testing.assert_allclose(history[0]["gradient_norm"][0], optax.tree.norm(gradient), rtol=1e-4)
    still = functools.partial(step, optimizer=optax.set_to_zero())
    _, history = run(still, sample, start.replace(opt_state=optax.EmptyState()), dataset, devices=1, steps=2)
    assert history[0]["loss"][0] != history[1]["loss"][0]


def test_training_learns_to_distinguish_new_images(dataset):
    _, history = run(*make_step("cross_entropy"), dataset, devices=1, steps=40)
    assert history[-1]["loss"][0] < 0.5 * history[0]["loss"][0]
    assert history[-1]["pair_accuracy"][0] > 0.9


def test_the_average_follows_the_weights_and_does_not_change_them(dataset, single_device):
    step, sample, start = make_step("cross_entropy")
    start = start.replace(average=(start.params, start.batch_stats))
    end, _ = run(functools.partial(step, average=0.5), sample, start, dataset, devices=1, steps=3)
    expected, _ = single_device("cross_entropy")
    for got, plain in zip(jax.tree.leaves(end.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(plain), rtol=1e-5, atol=1e-6)
    # The decay of the first three steps is 1/10, 2/11, 3/12.
    weights = [start.params["head"]["weight"]]
    for steps in (1, 2, 3):
        weights.append(
            np.asarray(run(step, sample, start.replace(average=None), dataset, 1, steps)[0].params["head"]["weight"])[0]
        )
    mean = weights[0]
    for keep, weight in zip((1 / 10, 2 / 11, 3 / 12), weights[1:], strict=True):
        mean = keep * mean + (1 - keep) * weight
    np.testing.assert_allclose(np.asarray(end.average[0]["head"]["weight"])[0], mean, rtol=1e-4)


def test_the_average_of_weights_that_stay_is_these_to_the_bit():
    """Such as frozen ones; 0.9 x + 0.1 x is not always x, and 1e-40 + 0 is 0 on a CPU."""
    weights = np.append(np.random.default_rng(0).uniform(size=1000), 1e-40).astype(np.float32)
    start = state.State(step=50, params=weights, batch_stats={}, opt_state=(), average=(weights, {}))
    after = start.replace(params=jnp.asarray(weights))
    averaged, _ = jax.jit(lambda before, after: state.average_of(before, after, 0.9))(start, after)
    assert np.asarray(averaged).tobytes() == weights.tobytes()
    averaged, _ = state.average_of(start, start.replace(params=jnp.asarray(weights + 1)), 0.9)
    np.testing.assert_allclose(averaged, weights + 0.15, rtol=1e-6)
