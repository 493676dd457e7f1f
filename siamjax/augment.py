"""Random distortions of images, in graph: key, images -> images."""

import chex
import jax
import jax.numpy as jnp


def affine(
    keys: chex.PRNGKey,
    images: chex.Array,
    *,
    probability: float,
    rotation: float,
    shear: float,
    scale: float,
    shift: float,
) -> chex.Array:
    """Distorts each image by its own random affine map about the centre, resampled bilinearly; outside is 0.

    Koch, Zemel, Salakhutdinov (2015), section 3.3: of the seven components (rotation, two shears, two scales, two
    shifts) each is present with its own probability and uniform in its range;
    https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf.

    Args:
      keys: PRNG keys [n], one an image.
      images: float [n, h, w, c].
      probability: of each component, 0..1.
      rotation: largest angle, degrees.
      shear: largest shear, as a tangent.
      scale: largest change of scale, 0..1: each axis is scaled by 1 - scale to 1 + scale.
      shift: largest shift, as a share of the image's side.

    Returns:
      float [n, h, w, c].
    """
    chex.assert_rank(images, 4)
    limits = jnp.array([rotation * jnp.pi / 180, shear, shear, scale, scale, shift, shift])
    matrices, shifts = jax.vmap(lambda key: _random_map(key, probability, limits))(keys)
    return jax.vmap(_resample)(images, matrices, shifts)


def _random_map(key, probability, limits):
    """Matrix [2, 2] and shift [2] (share of the side), on (y, x) coordinates."""
    value_key, present_key = jax.random.split(key)
    value = jax.random.uniform(value_key, limits.shape, minval=-1.0) * limits
    value = jnp.where(jax.random.bernoulli(present_key, probability, limits.shape), value, 0.0)
    angle, shear_y, shear_x, scale_y, scale_x = value[:5]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotate = jnp.array([[cos, sin], [-sin, cos]])
    shear = jnp.array([[1.0, shear_y], [shear_x, 1.0]])
    return rotate @ shear @ jnp.diag(1.0 + jnp.array([scale_y, scale_x])), value[5:]


def _resample(image, matrix, shift):
    """The image [h, w, c] moved by `matrix` about its centre and then by `shift`."""
    height, width, channels = image.shape
    middle = (jnp.array([height, width]) - 1) / 2
    y = jnp.arange(height)[:, None] - middle[0] - shift[0] * height
    x = jnp.arange(width)[None, :] - middle[1] - shift[1] * width
    (a, b), (c, d) = matrix
    y, x = (d * y - b * x) / (a * d - b * c), (a * x - c * y) / (a * d - b * c)
    # What comes from outside the image comes from a margin of zeros around it.
    from_y, from_x = jnp.clip(y + middle[0], -1, height), jnp.clip(x + middle[1], -1, width)
    top, left = jnp.floor(from_y), jnp.floor(from_x)
    below, right = (from_y - top)[..., None], (from_x - left)[..., None]
    pixels = jnp.pad(image, ((1, 2), (1, 2), (0, 0))).reshape(-1, channels)
    row = width + 3
    corner = ((top + 1) * row + left + 1).astype(jnp.int32)

    def at(offset):
        return pixels.at[corner + offset].get(mode="promise_in_bounds")

    upper = at(0) * (1 - right) + at(1) * right
    lower = at(row) * (1 - right) + at(row + 1) * right
    return upper * (1 - below) + lower * below
