"""VICReg: same items agree, while the components of embeddings keep their variance and stay uncorrelated."""

import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._candidates import Others, PairMasks, compare
from siamjax.losses._reduce import reduce
from siamjax.types import Array, Scalar


def vicreg(
    embeddings: Array,
    labels: Array | None,
    *,
    invariance: Scalar = 25.0,
    variance: Scalar = 25.0,
    covariance: Scalar = 1.0,
    epsilon: float = 1e-4,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """VICReg: λ mean |z − z'|² / d + μ (v(Z) + v(Z')) / 2 + ν (c(Z) + c(Z')) over the same pairs (z, z') of Z and Z'.

    Bardes, Ponce, LeCun: VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning (2022),
    equation 6, with the halved variance of the authors' code; https://arxiv.org/abs/2105.04906. v(Z) is the mean of
    max(0, 1 − √(var + ε)) over the components, c(Z) the sum of the squared covariances of different components / d.
    The two views of the paper are `vicreg(a, i, others=(b, i))` with i = arange(n); without `others`, Z' is Z. There
    are no negatives. It is a number of the whole batch, which has no items.

    Args:
      embeddings: float [n, d], Z; not of unit length, at which no component has variance 1.
      labels: int [n], identities; None with `pairs`.
      invariance: λ ≥ 0.
      variance: μ ≥ 0.
      covariance: ν ≥ 0.
      epsilon: ε > 0, which bounds the gradient where a component is constant.
      others: optional (embeddings [m, d], labels [m]), Z'.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs are the same; items of no
        pair of either kind take no part.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.

    Returns:
      float scalar; 0 where fewer than two items take part, and no pair is the same.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    apart = distances.pairwise_squared_euclidean(c.anchors, c.others) / c.anchors.shape[1]
    values = invariance * reduce(apart, c.found.positive, jnp.mean, apart)
    for x, used in zip((c.anchors, c.others), c.used, strict=True):
        spread, shared = _of_components(x, used, epsilon)
        values += variance * spread / 2 + covariance * shared
    return values.astype(c.like)


def _of_components(x, used, epsilon):
    """v and c of the rows of x [n, d] that `used` selects; 0 where these are fewer than two."""
    count, d = jnp.sum(used), x.shape[1]
    mean = jnp.sum(jnp.where(used[:, None], x, 0), axis=0, keepdims=True) / jnp.maximum(count, 1)
    x = jnp.where(used[:, None], x - mean, 0)
    covariances = distances.pairwise_dot(x.T, x.T) / jnp.maximum(count - 1, 1)
    spread = jnp.mean(jax.nn.relu(1 - jnp.sqrt(jnp.diagonal(covariances) + epsilon)))
    shared = jnp.sum(jnp.square(jnp.where(jnp.eye(d, dtype=bool), 0, covariances))) / d
    return jnp.where(count > 1, spread, 0), jnp.where(count > 1, shared, 0)
