"""Random distortions of images, in graph: key, images -> images."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from siamjax import draws
from siamjax.streams import OfImage
from siamjax.types import Array


def scaled(inputs: Array) -> jax.Array:
    """Inputs [n, ...] as encoders take them: uint8 0..255 becomes float32 0..1; floats stay."""
    return jnp.asarray(inputs, jnp.float32) / (255 if inputs.dtype == jnp.uint8 else 1)


def affine(
    keys: jax.Array,
    images: Array,
    *,
    probability: float = 0.5,
    rotation: float = 10.0,
    shear: float = 0.3,
    scale: float = 0.2,
    shift: float = 2 / 105,
    bend: float = 0.0,
    pen: float = 0.0,
) -> jax.Array:
    """Distorts each image by its own random affine map about the centre, resampled bilinearly; outside is 0.

    Koch, Zemel, Salakhutdinov (2015), section 3.3: of the seven components (rotation, two shears, two scales, two
    shifts) each is present with its own probability and uniform in its range;
    https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf.

    Args:
      keys: PRNG keys [n], one per image.
      images: float [n, h, w, c].
      probability: of each component, 0..1.
      rotation: largest angle, degrees.
      shear: largest shear, as a tangent.
      scale: largest change of scale, 0..1: each axis is scaled by 1 - scale to 1 + scale.
      shift: largest shift, as a share of the image's side.
      bend: standard deviation of the smooth, local shifts that bend the image, as a share of its side. Simard,
        Steinkraus, Platt: Best Practices for Convolutional Neural Networks (2003),
        https://doi.org/10.1109/ICDAR.2003.1227801, with fewer and smoother bends.
      pen: largest change of stroke width, 0..1: at 1 each pixel takes the darkest, or lightest, value among itself and
        its four neighbours.

    Returns:
      float [n, h, w, c].
    """
    chex.assert_rank(images, 4)
    limits = jnp.array([rotation * jnp.pi / 180, shear, shear, scale, scale, shift, shift])
    matrices, shifts = jax.vmap(lambda key: _random_map(key, probability, limits))(keys)
    bends = bend * jax.vmap(lambda key: _random_bend(key, *images.shape[1:3]))(keys) if bend else None
    images = jax.vmap(_resample)(images, matrices, shifts, bends)
    if not pen:
        return images
    share = jax.vmap(lambda key: jax.random.uniform(jax.random.split(key, 4)[3], (1, 1, 1), minval=-pen, maxval=pen))
    return _redraw(images, share(keys))


def photo(
    keys: jax.Array,
    images: Array,
    *,
    flip: float = 0.5,
    light: float = 0.2,
    colour: float = 0.1,
    erase: float = 0.0,
) -> jax.Array:
    """Varies photographs as cameras and poses do: mirrored left to right, with other light and tint, partly hidden.

    A rectangle is filled with one grey, so that the network does not rely on a single feature. Zhong, Zheng, Kang, Li,
    Yang: Random Erasing Data Augmentation (2017), https://arxiv.org/abs/1708.04896.

    Args:
      keys: PRNG keys [n], one per image.
      images: float [n, h, w, c], in 0..1.
      flip: probability of a mirror image, 0..1.
      light: largest change of contrast, as a factor, and of brightness, as a share of the range.
      colour: largest change of each channel against the others, as a factor; grey images have none.
      erase: longest side of the rectangle, as a share of the image's, 0..1; 0 for none.

    Returns:
      float [n, h, w, c], in 0..1.
    """
    chex.assert_rank(images, 4)

    def change(key, image):
        flip_key, light_key, colour_key, *erase_keys = jax.random.split(key, 6)
        image = jnp.where(jax.random.bernoulli(flip_key, flip), image[:, ::-1], image)
        contrast, brightness = light * jax.random.uniform(light_key, (2,), minval=-1)
        middle = jnp.mean(image)
        image = middle + (1 + contrast) * (image - middle) + brightness
        if image.shape[2] > 1:
            tint = colour * jax.random.uniform(colour_key, (1, 1, image.shape[2]), minval=-1)
            image = image * (1 + tint)
        hidden = _rectangle(erase_keys[0], erase_keys[1], image.shape[:2], erase)
        return jnp.where(hidden[..., None], jax.random.uniform(erase_keys[2]), jnp.clip(image, 0, 1))

    return jax.vmap(change)(keys, images)


def vary(keys: jax.Array, images: Array) -> jax.Array:
    """Turns an identity into a new, synthetic one: images that share a key get the same stretch, bend and tone.

    With few identities, twice as many reduce overfitting. Unlike a distortion, the change is the same for all images of
    an identity, so that it tells identities apart.

    Args:
      keys: PRNG keys [n], one per identity, repeated for its images.
      images: float [n, h, w, c], in 0..1.

    Returns:
      float [n, h, w, c], in 0..1.
    """
    chex.assert_rank(images, 4)
    images = affine(keys, images, probability=1.0, rotation=0.0, shear=0.15, scale=0.25, shift=0.08, bend=0.03, pen=0.0)
    tone_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, OfImage.TONE)
    tone = jax.vmap(lambda key: jax.random.uniform(key, minval=-0.7, maxval=0.7))(tone_keys)
    # Black stays black, with gradient 0.
    lit = images > 1e-4
    return jnp.where(lit, jnp.where(lit, images, 1.0) ** jnp.exp(tone)[:, None, None, None], 0.0)


def _rectangle(place_key, size_key, shape, longest):
    """bool [h, w]: the points of a rectangle with its centre anywhere, each side up to `longest` of the image's."""
    centre, half = jax.random.uniform(place_key, (2,)), longest / 2 * jax.random.uniform(size_key, (2,))
    inside = [
        jnp.abs(jnp.arange(side) - at * side) < share * side
        for side, at, share in zip(shape, centre, half, strict=True)
    ]
    return inside[0][:, None] & inside[1][None, :]


def _random_bend(key, height, width):
    """Shifts [2, h, w] of unit deviation at the points of a coarse grid, smooth between them, in image sides."""
    rows, columns = _smooth(height), _smooth(width)
    shifts = draws.numbers(jax.random.normal, jax.random.split(key, 4)[2], (2, rows.shape[1], columns.shape[1]))
    return rows @ shifts @ columns.T


def _smooth(places, points=4, reach=0.6) -> np.ndarray:
    """float32 [places, points]: the weight at each place of each point of a grid over them; rows of length 1."""
    distance = np.linspace(0, points - 1, places)[:, None] - np.arange(points)
    weight = np.exp(-0.5 * (distance / reach) ** 2)
    return (weight / np.linalg.norm(weight, axis=1, keepdims=True)).astype(np.float32)


def _redraw(images, share):
    """Images [n, h, w, c] a `share` [n, 1, 1, 1] of the way to their darkest neighbours; below 0, to their lightest."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    around = [padded[:, i : i + height, j : j + width] for i, j in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    most, least = functools.reduce(jnp.maximum, around), functools.reduce(jnp.minimum, around)
    return images + jnp.abs(share) * (jnp.where(share > 0, most, least) - images)


def turn(images: Array, number: Array) -> jax.Array:
    """Rotates each image by `number` quarter-turns; from 4 on, its mirror image.

    A rotated alphabet counts as a new one. Lake, Salakhutdinov, Tenenbaum: The Omniglot challenge: a 3-year progress
    report (2019), https://arxiv.org/abs/1902.03477, lists results with such classes separately from the original
    setting.

    Args:
      images: [n, h, h, c].
      number: int32 [n], 0..7.

    Returns:
      [n, h, h, c].
    """
    chex.assert_rank([images, number], [4, 1])
    number = number[:, None, None, None]
    images = jnp.where(number >= 4, images[:, :, ::-1], images)
    images = jnp.where(number % 2 == 1, images.swapaxes(1, 2)[:, ::-1], images)
    return jnp.where(number % 4 >= 2, images[:, ::-1, ::-1], images)


def _random_map(key, probability, limits):
    """Matrix [2, 2] and shift [2] (share of the side), on (y, x) coordinates."""
    value_key, present_key, *_ = jax.random.split(key, 4)
    value = draws.numbers(functools.partial(jax.random.uniform, minval=-1.0), value_key, limits.shape) * limits
    present = draws.numbers(functools.partial(jax.random.bernoulli, p=probability), present_key, limits.shape)
    value = jnp.where(present, value, 0.0)
    angle, shear_y, shear_x, scale_y, scale_x = value[:5]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotate = jnp.array([[cos, sin], [-sin, cos]])
    shear = jnp.array([[1.0, shear_y], [shear_x, 1.0]])
    return rotate @ shear @ jnp.diag(1.0 + jnp.array([scale_y, scale_x])), value[5:]


def _resample(image, matrix, shift, bend=None):
    """The image [h, w, c] moved by `matrix` about its centre and then by `shift`; `bend` [2, h, w] moves its points."""
    height, width, channels = image.shape
    size = jnp.array([height, width])
    middle = (size - 1) / 2
    (a, b), (c, d) = matrix
    inverse = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    start = middle - jnp.sum(inverse * (middle + shift * size)[None], axis=1)
    row, column = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)[None]
    y, x = (start[axis] + inverse[axis, 0] * row + inverse[axis, 1] * column for axis in (0, 1))
    if bend is not None:
        y, x = y + bend[0] * height, x + bend[1] * width
    y, x = _limited(y, height), _limited(x, width)
    top, left = jnp.floor(y), jnp.floor(x)
    below, right = (y - top)[..., None], (x - left)[..., None]
    # Points outside the image are read from a margin of zeros around it.
    pixels = jnp.pad(image, ((1, 2), (1, 2), (0, 0))).reshape(-1, channels)
    stride = width + 3
    corner = _whole(top + 1) * stride + _whole(left + 1)

    def at(offset):
        return pixels.at[corner + offset].get(mode="promise_in_bounds")

    upper = at(0) * (1 - right) + at(1) * right
    lower = at(stride) * (1 - right) + at(stride + 1) * right
    return upper * (1 - below) + lower * below


# Next to reads of single pixels, a CPU computes these number by number. `jnp.clip` and `astype`, which look for NaN and
# for what no integer can hold, then take several times as long.


def _limited(place, side):
    """Places in -1..side; NaN stays."""
    place = jnp.where(place < -1, -1.0, place)
    return jnp.where(place > side, float(side), place)


def _whole(numbers):
    """Whole numbers in 0..2^23 - 1 as int32: with 2^23 added, they are the last bits of a float32."""
    return lax.bitcast_convert_type((numbers + 2.0**23).astype(jnp.float32), jnp.int32) & (2**23 - 1)
