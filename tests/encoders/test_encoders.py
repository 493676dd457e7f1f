import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import encoders


def test_koch_has_the_papers_layers_and_initial_weights():
    encoder = encoders.make("koch", width=64, embedding=4096, dtype="float32")
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 105, 105, 1)))["params"]
    kernels = {name: layer["kernel"].shape for name, layer in shapes.items()}
    assert kernels == {
        "conv1": (10, 10, 1, 64),
        "conv2": (7, 7, 64, 128),
        "conv3": (4, 4, 128, 128),
        "conv4": (4, 4, 128, 256),
        "dense": (9216, 4096),
    }
    small = encoders.make("koch", width=8, embedding=64, dtype="float32")
    params = jax.jit(small.init)(jax.random.key(0), jnp.zeros((1, 105, 105, 1)))["params"]
    for name, layer in params.items():
        expected = 0.2 if name == "dense" else 0.01
        assert abs(float(layer["kernel"].std()) / expected - 1) < 0.1, name
        assert abs(float(layer["kernel"].mean())) < expected / 5, name
        assert abs(float(layer["bias"].mean()) - 0.5) < 0.02 and float(layer["bias"].std()) < 0.02, name


def test_scaled_initial_weights_separate_images_better_than_kochs():
    images = jax.random.uniform(jax.random.key(0), (4, 65, 65, 1))
    spread = {}
    for name in ("koch", "koch_scaled"):
        encoder = encoders.make(name, width=8, embedding=256, dtype="float32")
        embeddings, _ = jax.jit(encoder.init_with_output)(jax.random.key(1), images)
        spread[name] = float(embeddings.std(axis=0).mean())
    assert spread["koch_scaled"] > 5 * spread["koch"]


def test_koch_refuses_images_too_small_for_its_layers():
    encoder = encoders.make("koch", width=1, embedding=4, dtype="float32")
    with pytest.raises(ValueError, match="at least 65×65 pixels, found 64×64"):
        encoder.init(jax.random.key(0), jnp.zeros((1, 64, 64, 1)))
    assert encoder.init_with_output(jax.random.key(0), jnp.zeros((2, 65, 65, 1)))[0].shape == (2, 4)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["conv4", "pyramid", "local", "local56", "resnet12"])
def test_frozen_statistics_make_an_embedding_independent_of_its_batch(name):
    encoder = encoders.make(name, width=4, embedding=100, dtype="float32")
    images = jax.random.uniform(jax.random.key(0), (6, 20, 20, 1))
    variables = jax.jit(encoder.init)(jax.random.key(1), images)
    train = jax.jit(functools.partial(encoder.apply, train=True, mutable=["batch_stats"]))
    apply = jax.jit(encoder.apply)
    variables = {**variables, **train(variables, images)[1]}
    together = apply(variables, images)
    alone = apply(variables, images[2:3])
    np.testing.assert_allclose(alone[0], together[2], atol=1e-5)
    in_training, _ = train(variables, images[2:4])
    assert np.abs(in_training[0] - together[2]).max() > 1e-3


def test_local_descriptors_move_with_the_image_and_their_lengths_sum_to_one():
    encoder = encoders.make("local", width=4, embedding=13 * 13 * 5, dtype="float32")
    images = np.full((1, 52, 52, 1), 0.1, np.float32)
    images[0, 22:28, 21:31] = np.random.default_rng(0).uniform(size=(6, 10, 1))
    variables = jax.jit(encoder.init)(jax.random.key(1), images)
    apply = jax.jit(encoder.apply)
    here, lower = (
        np.asarray(apply(variables, np.roll(images, pixels, axis=1))).reshape(13, 13, 5) for pixels in (0, 4)
    )
    lengths = np.linalg.norm(here, axis=-1, keepdims=True)
    np.testing.assert_allclose(lengths.sum(), 1, rtol=1e-5)
    here, lower = here / lengths, lower / np.linalg.norm(lower, axis=-1, keepdims=True)
    np.testing.assert_allclose(lower[5:9, 4:9], here[4:8, 4:9], atol=1e-4)  # away from the edges
    assert np.abs(here[5:9] - here[4:8]).max() > 0.01


def test_local_refuses_an_embedding_that_does_not_fill_its_map():
    encoder = encoders.make("local", width=1, embedding=256, dtype="float32")
    with pytest.raises(ValueError, match="^embedding=256 must be a multiple of 49, the places of a map of 7×7"):
        encoder.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))


def test_local56_makes_the_map_of_local_from_images_of_twice_the_side_and_sees_their_detail():
    encoder = encoders.make("local56", width=4, embedding=49 * 5, dtype="float32")
    stripes = np.zeros((2, 56, 56, 1), np.float32)
    stripes[0, :, ::2] = stripes[1, ::2] = 1  # both are the same even grey at half the side
    variables = encoder.init(jax.random.key(1), stripes)
    vertical, horizontal = np.asarray(encoder.apply(variables, stripes)).reshape(2, 7, 7, 5)
    assert np.abs(vertical - horizontal)[2:5, 2:5].max() > 1e-3
    with pytest.raises(ValueError, match="reduces images 8 times and needs at least 8×8 pixels, found 7×56"):
        encoder.init(jax.random.key(0), jnp.zeros((1, 7, 56, 1)))


def test_bfloat16_computes_near_float32_and_returns_float32():
    images = jax.random.uniform(jax.random.key(0), (4, 28, 28, 1))
    make = lambda dtype: encoders.Conv(width=8, embedding=16, dtype=dtype)  # noqa: E731
    variables = jax.jit(make(jnp.float32).init)(jax.random.key(1), images)
    full, half = (jax.jit(make(dtype).apply)(variables, images) for dtype in (jnp.float32, jnp.bfloat16))
    assert half.dtype == jnp.float32
    difference = np.abs(full - half).max()
    assert 0 < difference < 0.05 * np.abs(full).max()


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(
        ValueError, match="^name='resnet' is not known; choose one of conv, conv4, conv5, conv6, efficientnet"
    ):
        encoders.make("resnet", width=1, embedding=1, dtype="float32")
    with pytest.raises(ValueError, match="^dtype='float16'"):
        encoders.make("conv4", width=1, embedding=1, dtype="float16")


def test_on_a_cpu_a_configured_bfloat16_is_float32():
    assert encoders.make("conv4", width=8, embedding=16, dtype="bfloat16").dtype == jnp.float32


def test_faces_drops_half_by_each_images_own_key_in_training_only():
    encoder = encoders.make("faces", width=4, embedding=8, dtype="float32")
    images = jax.random.uniform(jax.random.key(0), (3, 64, 64, 1))
    variables = jax.jit(encoder.init)(jax.random.key(1), images)
    keys = jax.random.split(jax.random.key(2), 3)

    @jax.jit
    def train(keys, images):
        return encoder.apply({**variables, "noise": {"keys": keys}}, images, train=True)

    together = train(keys, images)
    np.testing.assert_allclose(train(keys[1:2], images[1:2])[0], together[1], atol=1e-6)
    assert np.abs(train(keys[::-1], images) - together).max() > 1e-3
    apply = jax.jit(encoder.apply)
    np.testing.assert_array_equal(apply(variables, images), apply(variables, images))
    with pytest.raises(ValueError, match="at least 32×32 pixels, found 20×20"):
        encoder.init(jax.random.key(0), jnp.zeros((1, 20, 20, 1)))
