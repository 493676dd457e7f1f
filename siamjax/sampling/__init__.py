"""Which items make a batch: samplers on plain labels, and the functions in graph that they and the trainer use."""

from siamjax.sampling._draw import (
    Drawn,
    Index,
    check_pairs,
    few_images,
    grid_index,
    identities,
    make_index,
    most_identities,
    pairs,
    with_sources,
    with_variants,
)
from siamjax.sampling._given import PairIndex, given_pairs, make_pair_index
from siamjax.sampling._samplers import Balanced, Pairs, Triplets

__all__ = [
    "Balanced",
    "Drawn",
    "Index",
    "PairIndex",
    "Pairs",
    "Triplets",
    "check_pairs",
    "few_images",
    "given_pairs",
    "grid_index",
    "identities",
    "make_index",
    "make_pair_index",
    "most_identities",
    "pairs",
    "with_sources",
    "with_variants",
]
