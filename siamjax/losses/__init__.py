"""Siamese losses: per-item values, then a reduction; nothing selected gives 0, in value and gradient."""

from siamjax.losses.all_pairs import (
    batch_contrastive,
    batch_cosine_embedding,
    batch_double_margin_contrastive,
    batch_exponential_contrastive,
    batch_linear_contrastive,
    batch_pairwise_sigmoid,
    circle,
)
from siamjax.losses.angular import angular, angular_n_pair
from siamjax.losses.lifted import generalized_lifted_structure, lifted_structure
from siamjax.losses.multi_similarity import multi_similarity
from siamjax.losses.pair import (
    balanced_binary_cross_entropy,
    binary_cross_entropy,
    contrastive,
    cosine_embedding,
    double_margin_contrastive,
    exponential_contrastive,
    linear_contrastive,
    pairwise_sigmoid,
)
from siamjax.losses.proxy import arcface, cosface, proxy_anchor, proxy_nca, soft_triple, soft_triple_regularizer
from siamjax.losses.ranked_list import ranked_list
from siamjax.losses.softmax import info_nce, n_pair, n_pair_mc, ntxent, supervised_contrastive

__all__ = [
    "angular",
    "angular_n_pair",
    "arcface",
    "balanced_binary_cross_entropy",
    "batch_contrastive",
    "batch_cosine_embedding",
    "batch_double_margin_contrastive",
    "batch_exponential_contrastive",
    "batch_linear_contrastive",
    "batch_pairwise_sigmoid",
    "binary_cross_entropy",
    "circle",
    "contrastive",
    "cosface",
    "cosine_embedding",
    "double_margin_contrastive",
    "exponential_contrastive",
    "generalized_lifted_structure",
    "info_nce",
    "lifted_structure",
    "linear_contrastive",
    "multi_similarity",
    "n_pair",
    "n_pair_mc",
    "ntxent",
    "pairwise_sigmoid",
    "proxy_anchor",
    "proxy_nca",
    "ranked_list",
    "soft_triple",
    "soft_triple_regularizer",
    "supervised_contrastive",
]
