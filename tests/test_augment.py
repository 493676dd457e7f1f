import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from siamjax import augment

KEYS = jax.random.split(jax.random.key(1), 4000)
LIMITS = dict(probability=0.5, rotation=10.0, shear=0.3, scale=0.2, shift=0.1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(3, 13, 17, 2)).astype(np.float32)


def test_with_probability_zero_nothing_changes(images):
    keys = jax.random.split(jax.random.key(0), 3)
    out = augment.affine(keys, jnp.asarray(images), **{**LIMITS, "probability": 0.0})
    np.testing.assert_allclose(out, images, atol=1e-5)


@pytest.mark.parametrize("dtype, atol", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_resampling_equals_scipy(images, dtype, atol):
    matrix = np.array([[1.1, 0.2], [-0.3, 0.8]])
    shift = np.array([0.08, -0.05])
    with jax.enable_x64(dtype == np.float64):
        out = augment._resample(*(jnp.asarray(x, dtype) for x in (images[0], matrix, shift)))
    size = np.array(images.shape[1:3])
    inverse = np.linalg.inv(matrix)
    centre = (size - 1) / 2
    offset = centre - inverse @ (centre + shift * size)
    for channel in range(2):
        padded = np.pad(images[0, ..., channel].astype(np.float64), 4)
        expected = scipy.ndimage.affine_transform(padded, inverse, inverse @ [-4, -4] + offset + 4, order=1)[4:-4, 4:-4]
        np.testing.assert_allclose(out[..., channel], expected, atol=atol)


def test_what_is_far_outside_is_0_and_an_unknown_map_gives_nan(images):
    image, unmoved = jnp.asarray(images[0]), jnp.zeros(2)
    out = np.asarray(augment._resample(image, 0.01 * jnp.eye(2), unmoved))
    np.testing.assert_allclose(out[6, 8], image[6, 8], atol=1e-3)  # The centre is all that is left.
    assert np.count_nonzero(out) == 2
    assert not np.any(augment._resample(image, jnp.eye(2), jnp.array([1e30, 0.0])))
    assert np.isnan(augment._resample(image, jnp.full((2, 2), jnp.nan), unmoved)).all()


def test_components_come_with_their_probability_and_range():
    for place, (name, limit) in enumerate([("shift", 0.1), ("shift", 0.1)]):
        limits = jnp.zeros(7).at[5 + place].set(limit)
        _, shifts = jax.vmap(lambda key, limits=limits: augment._random_map(key, 0.3, limits))(KEYS)
        drawn = np.asarray(shifts[:, place])
        assert abs((drawn != 0).mean() - 0.3) < 0.03, name
        assert 0.099 < np.abs(drawn).max() <= 0.1
        assert abs(drawn.mean()) < 0.003
    matrices, _ = jax.vmap(lambda key: augment._random_map(key, 1.0, jnp.array([jnp.pi / 18, 0, 0, 0, 0, 0, 0])))(KEYS)
    angles = np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    assert 9.9 < np.abs(angles).max() <= 10.001
    matrices, _ = jax.vmap(lambda key: augment._random_map(key, 1.0, jnp.array([0, 0, 0, 0.2, 0.2, 0, 0])))(KEYS)
    scales = np.asarray(matrices)[:, [0, 1], [0, 1]]
    assert scales.min() >= 0.8 and scales.max() <= 1.2 and abs(np.corrcoef(scales.T)[0, 1]) < 0.05


@pytest.mark.parametrize("place", [0, 1])
def test_both_shears_reach_their_limit_and_change_nothing_else(place):
    limits = jnp.zeros(7).at[1 + place].set(0.3)
    matrices, shifts = jax.vmap(lambda key: augment._random_map(key, 1.0, limits))(KEYS)
    matrices = np.array(matrices)
    sheared = matrices[:, place, 1 - place].copy()
    assert 0.29 < sheared.max() <= 0.3001 and -0.3001 <= sheared.min() < -0.29
    matrices[:, place, 1 - place] = 0
    np.testing.assert_allclose(matrices, np.broadcast_to(np.eye(2), matrices.shape), atol=1e-6)
    assert not np.any(shifts)


def test_images_are_distorted_independently(images):
    keys = jax.random.split(jax.random.key(2), 3)
    alike = jnp.stack([jnp.asarray(images[0])] * 3)
    out = augment.affine(keys, alike, **{**LIMITS, "probability": 1.0})
    assert np.abs(out[0] - out[1]).max() > 0.1 and np.abs(out[1] - out[2]).max() > 0.1
    alone = augment.affine(keys[1:2], alike[1:2], **{**LIMITS, "probability": 1.0})
    np.testing.assert_allclose(alone[0], out[1], atol=1e-6)


def test_turns_equal_numpys(images):
    square = images[:1, :, :13].repeat(8, axis=0)
    turned = augment.turn(jnp.asarray(square), jnp.arange(8))
    for number in range(8):
        mirrored = square[0][:, ::-1] if number >= 4 else square[0]
        np.testing.assert_array_equal(turned[number], np.rot90(mirrored, number % 4))


def test_bends_shift_by_their_deviation_and_smoothly():
    bends = np.asarray(jax.vmap(lambda key: augment._random_bend(key, 20, 30))(KEYS))
    assert bends.shape == (4000, 2, 20, 30)
    assert abs(bends.mean()) < 0.02
    np.testing.assert_allclose(bends.std(axis=0), 1.0, atol=0.05)
    assert np.abs(np.diff(bends, axis=2)).max() < 2.0 < np.abs(bends).max()
    # Ink goes where the bend says.
    ramp = jnp.broadcast_to(jnp.arange(30.0)[None, :, None], (20, 30, 1))
    moved = augment._resample(ramp, jnp.eye(2), jnp.zeros(2), jnp.full((2, 20, 30), 0.1))
    np.testing.assert_allclose(moved[5, 5:20, 0], ramp[5, 5:20, 0] + 3.0, atol=1e-4)


def test_the_pen_thickens_and_thins_strokes():
    images = jnp.zeros((3, 7, 7, 1)).at[:, 2:5, 2:5].set(0.8)
    drawn = augment._redraw(images, jnp.array([1.0, -1.0, 0.5]).reshape(3, 1, 1, 1))
    assert int((drawn[0] > 0).sum()) == 9 + 12 and int((drawn[1] > 0).sum()) == 1
    np.testing.assert_allclose(drawn[2, 1, 3, 0], 0.4, rtol=1e-6)
    still = augment.affine(KEYS[:3], images, **LIMITS)
    np.testing.assert_array_equal(augment.affine(KEYS[:3], images, **LIMITS, bend=0.0, pen=0.0), still)
    assert np.abs(augment.affine(KEYS[:3], images, **LIMITS, bend=0.05) - still).max() > 0.05
    assert np.abs(augment.affine(KEYS[:3], images, **LIMITS, pen=0.9) - still).max() > 0.05


def test_photo_mirrors_and_changes_light_within_bounds_and_each_image_by_its_own_key():
    images = jnp.tile(jnp.linspace(0.2, 0.8, 6)[None, None, :, None], (64, 6, 1, 3))
    keys = jax.random.split(jax.random.key(0), 64)
    got = np.asarray(augment.photo(keys, images, flip=0.5, light=0.2, colour=0.1, erase=0.0))
    assert got.min() >= 0 and got.max() <= 1
    mirrored = got[:, 0, 0, 0] > got[:, 0, -1, 0]
    assert 18 < mirrored.sum() < 46
    contrast = np.abs(got[:, 0, -1, 0] - got[:, 0, 0, 0]) / 0.6
    assert 0.65 < contrast.min() < 0.85 and 1.15 < contrast.max() < 1.35
    tint = got[:, 0, 2, 0] / got[:, 0, 2, 1]
    assert 0.8 < tint.min() < 0.95 and 1.05 < tint.max() < 1.25
    alone = augment.photo(keys[5:6], images[5:6], flip=0.5, light=0.2, colour=0.1, erase=0.0)
    np.testing.assert_allclose(alone[0], got[5], atol=1e-6)
    np.testing.assert_allclose(
        augment.photo(keys, images, flip=0.0, light=0.0, colour=0.0, erase=0.0), images, atol=1e-6
    )


def test_a_variant_changes_all_images_of_an_identity_in_the_same_way():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(0, 1, (2, 16, 16, 1)), jnp.float32).at[:, :, :3].set(0)
    images = jnp.concatenate([images, images])
    keys = jnp.repeat(jax.random.split(jax.random.key(0), 2), 2)
    vary = jax.jit(augment.vary)
    got = vary(keys, images)
    again = vary(keys[jnp.array([0, 0])], images[:2])
    np.testing.assert_allclose(got[:2], again, atol=1e-6)
    assert np.abs(got[0] - got[2]).mean() > 0.05 and np.abs(got[0] - images[0]).mean() > 0.05
    assert got.min() >= 0 and got.max() <= 1
    slope = jax.jit(jax.grad(lambda x: augment.vary(keys, x).sum()))(images)
    assert np.isfinite(slope).all()


def test_erasing_fills_one_rectangle_with_one_grey():
    images = np.full((64, 20, 24, 3), 0.5, np.float32) + np.linspace(0, 0.01, 24)[None, None, :, None]
    keys = jax.random.split(jax.random.key(1), 64)
    got = np.asarray(augment.photo(keys, images, flip=0.0, light=0.0, colour=0.0, erase=0.5))
    shares = []
    for image, before in zip(got, images, strict=True):
        hidden = np.abs(image - before).max(axis=2) > 1e-5
        rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
        np.testing.assert_array_equal(hidden, np.outer(hidden.any(axis=1), hidden.any(axis=0)))
        if len(rows):
            assert np.ptp(image[hidden]) == 0
            assert np.ptp(rows) < 0.5 * 20 and np.ptp(columns) < 0.5 * 24
        shares.append(hidden.mean())
    assert 0.02 < np.mean(shares) < 0.1 and max(shares) > 0.12
