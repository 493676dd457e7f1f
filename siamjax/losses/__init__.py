"""Siamese losses: per-item values, then a reduction; nothing selected gives 0, in value and gradient."""

from siamjax.losses._all_pairs import (
    batch_contrastive,
    batch_cosine_embedding,
    batch_double_margin_contrastive,
    batch_exponential_contrastive,
    batch_linear_contrastive,
    batch_pairwise_sigmoid,
    circle,
)
from siamjax.losses._angular import angular, angular_n_pair
from siamjax.losses._batch_triplet import (
    batch_all_triplet,
    batch_hard_triplet,
    easy_positive_triplet,
    semi_hard_triplet,
)
from siamjax.losses._decoupled import decoupled_contrastive, ge2e
from siamjax.losses._distillation import similarity_distillation
from siamjax.losses._lifted import generalized_lifted_structure, lifted_structure
from siamjax.losses._margin import intra_pair_variance, margin, tuplet_margin
from siamjax.losses._multi_similarity import multi_similarity
from siamjax.losses._pair import (
    balanced_binary_cross_entropy,
    binary_cross_entropy,
    contrastive,
    cosine_embedding,
    double_margin_contrastive,
    exponential_contrastive,
    linear_contrastive,
    pairwise_sigmoid,
)
from siamjax.losses._proxy import (
    arcface,
    cosface,
    proxy_anchor,
    proxy_nca,
    soft_triple,
    soft_triple_regularizer,
    sphereface,
    sub_center_arcface,
)
from siamjax.losses._ranked_list import ranked_list
from siamjax.losses._ranking import fast_ap, histogram, smooth_ap
from siamjax.losses._snr import pairwise_snr_distance, snr_distance, zero_mean_regularizer
from siamjax.losses._softmax import info_nce, n_pair, n_pair_mc, nca, ntxent, supervised_contrastive
from siamjax.losses._triplet import quadruplet, triplet_margin
from siamjax.losses._vicreg import vicreg

__all__ = [
    "angular",
    "angular_n_pair",
    "arcface",
    "balanced_binary_cross_entropy",
    "batch_all_triplet",
    "batch_contrastive",
    "batch_cosine_embedding",
    "batch_double_margin_contrastive",
    "batch_exponential_contrastive",
    "batch_hard_triplet",
    "batch_linear_contrastive",
    "batch_pairwise_sigmoid",
    "binary_cross_entropy",
    "circle",
    "contrastive",
    "cosface",
    "cosine_embedding",
    "decoupled_contrastive",
    "double_margin_contrastive",
    "easy_positive_triplet",
    "exponential_contrastive",
    "fast_ap",
    "ge2e",
    "generalized_lifted_structure",
    "histogram",
    "info_nce",
    "intra_pair_variance",
    "lifted_structure",
    "linear_contrastive",
    "margin",
    "multi_similarity",
    "n_pair",
    "n_pair_mc",
    "nca",
    "ntxent",
    "pairwise_sigmoid",
    "pairwise_snr_distance",
    "proxy_anchor",
    "proxy_nca",
    "quadruplet",
    "ranked_list",
    "semi_hard_triplet",
    "similarity_distillation",
    "smooth_ap",
    "snr_distance",
    "soft_triple",
    "soft_triple_regularizer",
    "sphereface",
    "sub_center_arcface",
    "supervised_contrastive",
    "triplet_margin",
    "tuplet_margin",
    "vicreg",
    "zero_mean_regularizer",
]
