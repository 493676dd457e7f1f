import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import distances, mining
from siamjax.losses import multi_similarity

LABELS = jnp.array([7, -3, 7, 7, 11, -3, 7, 500, -3, 11])
EMBEDDINGS = jnp.asarray(np.random.default_rng(0).normal(size=(10, 4)), jnp.float32)


def test_mined_pairs_can_be_passed():
    pairs = mining.multi_similarity(distances.pairwise_cosine(EMBEDDINGS, EMBEDDINGS), LABELS, epsilon=0.05)
    mined = multi_similarity(EMBEDDINGS, LABELS, epsilon=0.05)
    np.testing.assert_allclose(multi_similarity(EMBEDDINGS, LABELS, pairs=pairs), mined, rtol=1e-6)
    assert mined != multi_similarity(EMBEDDINGS, LABELS)


def test_epsilon_and_pairs_together_are_refused():
    pairs = mining.multi_similarity(distances.pairwise_cosine(EMBEDDINGS, EMBEDDINGS), LABELS)
    with pytest.raises(ValueError, match="epsilon= and pairs="):
        multi_similarity(EMBEDDINGS, LABELS, epsilon=0.1, pairs=pairs)
