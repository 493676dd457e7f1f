"""The architectures with published weights: layers, inputs, what is frozen; their numbers are held in tests/parity."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from siamjax import encoders
from siamjax.encoders import ARCHITECTURES, Architecture
from siamjax.encoders._depthwise import depthwise
from siamjax.encoders._inverted import Inverted

# Without the classifier of 1000 classes, which published counts include: torchvision's, timm's and DINOv2's.
PARAMETERS = {
    "mobilenet_v2": 3_504_872 - 1_281_000,
    "efficientnet_lite0": 4_652_008 - 1_281_000,
    "resnet18": 11_689_512 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "vit_s14": 22_056_576 - 384,  # DINOv2's token for masks, which only its training has
}


@pytest.fixture
def tiny(monkeypatch):
    stages = ((1, 8, 1, 2, 3),)
    known = Architecture(functools.partial(Inverted, stages=stages), 1280, 64, "nobody/tiny")
    monkeypatch.setitem(ARCHITECTURES, "tiny", known)
    monkeypatch.setitem(encoders.ENCODERS, "tiny", functools.partial(encoders.Pretrained, "tiny"))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_published(name):
    known = ARCHITECTURES[name]
    encoder = encoders.make(name, width=32, embedding=known.features)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 56, 56, 3)))["params"]
    assert list(shapes) == ["backbone"]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("side", "stride", "size"), [(3, 1, (7, 10)), (3, 2, (7, 10)), (5, 2, (10, 7)), (5, 1, (2, 1))]
)
def test_depthwise_equals_xlas_convolution_in_value_and_gradient(side, stride, size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *size, 4)).astype(np.float32)
    kernel = rng.normal(size=(side, side, 1, 4)).astype(np.float32)
    xlas = functools.partial(
        lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=((side // 2, side // 2),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
    )

    @functools.partial(jax.jit, static_argnums=0)
    def all_passes(convolve, dy):
        y, back = jax.vjp(convolve, x, kernel)
        return y, *back(dy)

    dy = rng.normal(size=jax.eval_shape(xlas, x, kernel).shape).astype(np.float32)
    ours = lambda x, kernel: depthwise(x, kernel, stride)  # noqa: E731
    for got, expected in zip(all_passes(ours, dy), all_passes(xlas, dy), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_grey_images_are_taken_as_colour(tiny):
    encoder = encoders.make("tiny", width=32, embedding=8)
    grey = jax.random.uniform(jax.random.key(0), (2, 32, 33, 1))
    variables = jax.jit(encoder.init)(jax.random.key(1), grey)
    apply = jax.jit(encoder.apply)
    expected = apply(variables, grey)
    np.testing.assert_allclose(apply(variables, jnp.repeat(grey, 3, axis=3)), expected, atol=1e-6)
    np.testing.assert_allclose(apply(variables, grey[..., 0]), expected, atol=1e-6)


def test_images_are_normalised_inside(tiny):
    """An image of ImageNet's mean colour is zeros to the first layer, whatever its weights."""
    encoder = encoders.make("tiny", width=32, embedding=8)
    images = jnp.full((1, 40, 40, 3), 1.0) * jnp.array([0.485, 0.456, 0.406])[None, None, None]
    variables = jax.jit(encoder.init)(jax.random.key(1), images)
    _, kept = jax.jit(functools.partial(encoder.apply, capture_intermediates=True, mutable=["intermediates"]))(
        variables, images
    )
    assert np.abs(kept["intermediates"]["backbone"]["conv_stem"]["__call__"][0]).max() < 1e-6


def test_frozen_layers_get_no_gradient_and_statistics_are_kept_on_request(tiny):
    images = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
    variables = jax.jit(encoders.make("tiny", width=32, embedding=8).init)(jax.random.key(1), images)

    @functools.partial(jax.jit, static_argnums=0)
    def trained(kind):
        encoder = encoders.make("tiny", width=32, embedding=8, **{kind: True} if kind else {})

        def loss(params):
            given = {**variables, "params": params}
            embeddings, updated = encoder.apply(given, images, train=True, mutable=["batch_stats"])
            return jnp.square(embeddings).mean(), updated

        return jax.grad(loss, has_aux=True)(variables["params"])

    for kind in ("frozen", "keep_statistics", ""):
        grads, updated = trained(kind)
        moved = [bool(np.any(leaf)) for leaf in jax.tree.leaves(grads["backbone"]["conv_stem"])]
        assert moved == [kind != "frozen"] and np.any(grads["last"]["kernel"])
        same = jax.tree.map(lambda a, b: bool(np.all(a == b)), updated["batch_stats"], variables["batch_stats"])
        assert all(jax.tree.leaves(same)) == (kind != "")


def test_bfloat16_is_near_float32(tiny):
    images = jax.random.uniform(jax.random.key(0), (2, 48, 48, 3))
    make = lambda dtype: encoders.Pretrained("tiny", embedding=8, dtype=dtype)  # noqa: E731
    variables = jax.jit(make(jnp.float32).init)(jax.random.key(1), images)
    full, half = (jax.jit(make(dtype).apply)(variables, images) for dtype in (jnp.float32, jnp.bfloat16))
    assert half.dtype == jnp.float32
    assert 0 < np.abs(full - half).max() < 0.1 * np.abs(full).max()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("mobilenet_v2", (1, 28, 28, 1), r"at least 32×32 pixels \(its published weights were trained on 224×224\)"),
        ("resnet18", (1, 64, 64, 2), r"images of 1 or 3 channels.*found inputs \[1, 64, 64, 2\]"),
        ("vit_s14", (1, 112, 120, 3), "found 112×120; use sides that are multiples of 14, such as data.size=112"),
    ],
)
def test_images_that_do_not_fit_are_refused(name, shape, message):
    encoder = encoders.make(name, width=32, embedding=8)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros(shape))


def test_frozen_is_refused_for_encoders_without_published_weights():
    with pytest.raises(ValueError, match=r"^frozen=True is for encoders with published weights \(mobilenet_v2"):
        encoders.make("conv4", width=8, embedding=8, frozen=True)
