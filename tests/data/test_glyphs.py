"""Glyphs are pure functions of their numbers, distinct where they should be, and look like Omniglot's handwriting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax.data import dataset as dataset_lib
from siamjax.data import glyphs

KEY = jax.random.key(5)
ALPHABETS, CHARACTERS, DRAWERS = 6, 16, 8


@functools.lru_cache
def fixed(size):
    return glyphs.dataset(KEY, ALPHABETS, CHARACTERS, DRAWERS, size)


def index(alphabet, character, drawer):
    return (alphabet * CHARACTERS + character) * DRAWERS + drawer


def test_a_drawing_is_the_same_alone_and_in_a_batch():
    alone = glyphs.draw(KEY, jnp.int32(2), jnp.int32(3), jnp.int32(4), 28)
    assert alone.shape == (28, 28, 1) and alone.dtype == jnp.uint8
    # Arithmetic fused in another way may round a grey level differently.
    np.testing.assert_allclose(np.int32(alone), np.int32(fixed(28).images[index(2, 3, 4)]), atol=1)


def test_every_number_and_the_key_matter():
    images = np.int32(fixed(28).images)
    first = images[index(2, 3, 4)]
    for other in [(1, 3, 4), (2, 7, 4), (2, 3, 7), (3, 2, 4), (2, 4, 3)]:
        assert np.abs(images[index(*other)] - first).mean() > 2, other
    elsewhere = glyphs.dataset(jax.random.key(6), 3, 4, 5, 28).images[-1]
    assert np.abs(elsewhere - first).mean() > 2


def test_no_two_drawings_are_equal():
    images = fixed(28).images.reshape(len(fixed(28)), -1)
    assert len(np.unique(images, axis=0)) == len(images)


@pytest.mark.parametrize("size", [28, 105])
def test_ink_is_as_much_as_in_omniglot_and_away_from_the_edge(size):
    ink = fixed(size).images[..., 0] / 255.0
    share = ink.mean((1, 2))
    # Omniglot's background set: mean 0.079, 5th percentile 0.037, 95th 0.128.
    assert 0.05 < share.mean() < 0.11
    assert share.min() > 0.005 and share.max() < 0.4
    edge = np.concatenate([ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]], 1)
    assert (edge.max(1) > 0.5).mean() < 0.05


def test_full_size_is_nearly_one_bit():
    ink = fixed(105).images
    assert np.mean((ink > 25) & (ink < 230)) < 0.05


def test_small_drawings_look_like_the_area_average_of_large_ones():
    small, large = fixed(28).images[..., 0] / 255.0, fixed(105).images[..., 0] / 255.0
    # Row i holds the share of each large pixel that falls into small pixel i: 105 is not a multiple of 28.
    edges = np.arange(29) * 105 / 28
    pixel = np.arange(105)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    average = np.clip(overlap, 0, None) * 28 / 105
    averaged = average @ large @ average.T
    difference = np.abs(averaged - small)
    assert difference.mean() < 0.01 and difference[averaged > 0.1].mean() < 0.06
    np.testing.assert_allclose(small.mean(), averaged.mean(), rtol=0.03)


def test_a_character_is_nearer_to_itself_than_to_others_of_its_alphabet():
    images = fixed(28).images.reshape(ALPHABETS, CHARACTERS, DRAWERS, -1) / 255.0
    images = images.reshape(ALPHABETS, CHARACTERS * DRAWERS, -1)
    square = (images**2).sum(-1)
    distance = square[:, :, None] + square[:, None] - 2 * images @ images.transpose(0, 2, 1)
    label = np.arange(CHARACTERS * DRAWERS) // DRAWERS
    same = (label[:, None] == label) & ~np.eye(len(label), dtype=bool)
    other = label[:, None] != label
    assert (distance[:, same].mean(1) < 0.95 * distance[:, other].mean(1)).all()


def test_data_sets_of_other_alphabets_are_disjoint_and_named_by_number():
    later = glyphs.dataset(KEY, 2, 3, 2, 28, first_alphabet=4)
    assert later.group_names == ("glyphs-0004", "glyphs-0005")
    dataset_lib.checked(later, "later")
    assert len(later) == 12 and later.label.max() == 5 and later.source.max() == 1
    # Alphabet 4 is alphabet 4, whichever data set it is drawn for.
    np.testing.assert_array_equal(later.images[0], fixed(28).images[index(4, 0, 0)])
