import jax.numpy as jnp
import numpy as np

from siamjax import distances, mining
from siamjax.losses import multi_similarity

LABELS = jnp.array([7, -3, 7, 7, 11, -3, 7, 500, -3, 11])
EMBEDDINGS = jnp.asarray(np.random.default_rng(0).normal(size=(10, 4)), jnp.float32)


def test_mined_pairs_can_be_passed():
    pairs = mining.multi_similarity(distances.pairwise_cosine(EMBEDDINGS, EMBEDDINGS), LABELS, epsilon=0.05)
    mined = multi_similarity(EMBEDDINGS, LABELS, epsilon=0.05)
    np.testing.assert_allclose(multi_similarity(EMBEDDINGS, LABELS, pairs=pairs), mined, rtol=1e-6)
    assert mined != multi_similarity(EMBEDDINGS, LABELS)


def test_given_pairs_are_mined_too():
    found = mining.candidates(LABELS, where=jnp.arange(10) % 4 != 0)
    mined = mining.multi_similarity(distances.pairwise_cosine(EMBEDDINGS, EMBEDDINGS), found, epsilon=0.05)
    both = multi_similarity(EMBEDDINGS, None, epsilon=0.05, pairs=found)
    np.testing.assert_allclose(both, multi_similarity(EMBEDDINGS, None, pairs=mined), rtol=1e-6)
