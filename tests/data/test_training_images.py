import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from siamjax.data import Dataset, glyphs, training_images

WORLD = ml_collections.ConfigDict(dict(size=20, glyphs=dict(alphabets=2, characters=3, drawers=4, joined=0)))


def test_drawn_images_are_those_with_the_numbers_in_the_index():
    drawn = training_images.make(WORLD, None)
    key = jax.random.key(3)
    item = jnp.asarray(drawn.index.image[[0, 4, 5], [1, 0, 3]])
    images = jax.jit(drawn.fetch)(key, drawn.images, item)
    for image, (alphabet, character, drawer) in zip(images, [(0, 0, 1), (1, 1, 0), (1, 2, 3)], strict=True):
        expected = glyphs.draw(key, alphabet, character, drawer, 20)
        assert np.abs(image.astype(np.int32) - expected).max() <= 1
    others = jax.jit(drawn.fetch)(jax.random.key(4), drawn.images, item)
    assert (images != others).any(axis=(1, 2, 3)).all()  # Another step has other alphabets.


def test_images_of_a_data_set_are_fetched_by_number():
    number = np.arange(6, dtype=np.int32)
    images = number.astype(np.uint8).reshape(6, 1, 1, 1)
    stored = training_images.make(WORLD, Dataset(images, number // 2, number // 4, number % 2, ("a", "b")))
    fetched = stored.fetch(None, jnp.asarray(stored.images), jnp.asarray(stored.index.image[2]))
    np.testing.assert_array_equal(np.ravel(fetched), [4, 5])


def test_joined_alphabets_have_their_share_of_the_batches():
    number = np.arange(6, dtype=np.int32)
    dataset = Dataset(np.zeros((6, 1, 1, 1), np.uint8), number, number // 2, number, ("a", "b", "glyphs-0"))
    world = WORLD.copy_and_resolve_references()
    world.glyphs.joined, world.glyphs.share = 1, 0.4
    np.testing.assert_allclose(training_images.make(world, dataset).index.weight, [0.3, 0.3, 0.4], rtol=1e-6)
