"""Learning from a trained network besides the labels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import siamjax
from siamjax import encoders, heads, losses, parallel
from siamjax.training import objectives, state, teaching
from siamjax.training.step import update
from siamjax.training.types import Batch, Mode

RNG = np.random.default_rng(0)
TEACHER = state.Model(encoders.make("mlp", 8, 4), heads.Distance())
STUDENT = encoders.make("mlp", 16, 6)
TAUGHT = state.Model(encoders.make("mlp", 16, 6, axis_name=parallel.AXIS), heads.WeightedL1())
LABEL = np.arange(8, dtype=np.int32) // 2
OWN = objectives.make("ranking", TAUGHT.head)


def weights(model, shape, seed):
    return state.create(model, jax.random.key(seed), shape, optax.sgd(1.0), False, OWN)


def teach(images=(8, 8, 1), expected=(4, 4, 1), mode: Mode = "identities"):
    trained = weights(TEACHER, expected, 1)
    encoder = {"params": trained.params["encoder"], "batch_stats": trained.batch_stats}
    variables = {"encoder": encoder, "head": trained.params["head"]}
    return variables, teaching.taught(
        OWN, TAUGHT.head, TEACHER, variables, share=0.25, mode=mode, images=images, expected=expected
    )


def one_step(objective, devices):
    start = weights(TAUGHT, (8, 8, 1), 2)
    images = np.random.default_rng(1).uniform(size=(devices, 8 // devices, 8, 8, 1)).astype(np.float32)
    noise = jax.random.split(jax.random.key(2), (devices, 8 // devices))
    step = functools.partial(update, model=TAUGHT, objective=objective, optimizer=optax.sgd(1.0))

    def on_device(start, images, noise):
        return step(start, Batch(images, noise, LABEL, np.zeros_like(LABEL)))

    stepped = parallel.pmap(on_device, devices=jax.devices()[:devices])
    return parallel.first(stepped(parallel.replicate(start, jax.devices()[:devices]), images, noise)), images


@pytest.mark.parametrize("devices", [1, 4])
def test_a_share_of_the_loss_is_the_distance_from_the_teachers_ranking(devices):
    variables, objective = teach()
    (_, metrics), images = one_step(objective, devices)
    (_, alone), _ = one_step(OWN, 1)
    images = images.reshape(8, 8, 8, 1)
    small = jax.image.resize(images, (8, 4, 4, 1), "linear", antialias=True)
    start = weights(TAUGHT, (8, 8, 1), 2)
    student = {"params": start.params["encoder"], "batch_stats": start.batch_stats}
    learn = jax.jit(functools.partial(STUDENT.apply, train=True, mutable=["batch_stats"]))
    embeddings, _ = learn(student, jnp.asarray(images))
    of_teacher = jax.jit(TEACHER.encoder.apply)(variables["encoder"], jnp.asarray(small))
    own, their = (
        jnp.asarray(model.head.apply({"params": params}, e, e, method="all_pairs"))
        for model, params, e in (
            (TAUGHT, start.params["head"], embeddings),
            (TEACHER, variables["head"], of_teacher),
        )
    )
    lesson = losses.similarity_distillation(own, their, where=~np.eye(8, dtype=bool))
    expected = 0.75 * alone["loss"] + 0.25 * lesson
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    assert abs(lesson - alone["loss"]) > 0.2 * expected


def test_a_teacher_that_cannot_see_the_images_is_refused():
    with pytest.raises(ValueError, match=r"teacher: it takes inputs \[4, 4, 1\], found \[8, 8, 3\].*as many channels"):
        teach(images=(8, 8, 3))
    with pytest.raises(ValueError, match="teacher: it compares all inputs .* not of mode='pairs'"):
        teach(mode="pairs")


@pytest.mark.thorough
def test_a_small_network_learns_from_a_large_one_what_its_few_labels_do_not_say():
    """The student's labels are noise; what it learns is the teacher's."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(60, 12)).astype(np.float32)
    y = np.repeat(np.arange(60), 6)
    x = np.concatenate([centres[y] + 0.3 * rng.normal(size=(360, 12)), 2 * rng.normal(size=(360, 20))], axis=1)
    x = x.astype(np.float32)
    teacher = siamjax.fit(x, y, steps=200, identities=16)
    new = rng.normal(size=(20, 12)).astype(np.float32)
    y_new = np.repeat(np.arange(20), 6)
    x_new = np.concatenate([new[y_new] + 0.3 * rng.normal(size=(120, 12)), 2 * rng.normal(size=(120, 20))], axis=1)

    def recall(**options):
        network = siamjax.fit(x, rng.permutation(y), steps=100, identities=16, **options)
        e = network.embed(x_new.astype(np.float32))
        near = e @ e.T - 2 * np.eye(len(e)) * np.max(np.abs(e)) ** 2 * e.shape[1]
        return np.mean(y_new[np.argmax(near, axis=1)] == y_new)

    assert recall(teacher=teacher) > recall() + 0.15
