"""Miners: which pairs and triplets of a batch count, as fixed shapes with masks, chosen in graph and without gradient.

A miner takes distances [n, m] (smaller is more alike) and the labels [n] of the batch, or `Candidates` where the batch
is compared with something else (a memory) or with a part of itself (a curriculum). A distance that is NaN is chosen
before all others, so that a loss of the choice is NaN, and makes `active_share` NaN.
"""

from siamjax.mining._candidates import Candidates, Pairs, Triplets, candidates
from siamjax.mining._curriculum import easy_to_hard, limit_hardness
from siamjax.mining._memory import Memory, init_memory, lookup, push
from siamjax.mining._pairs import easy_hard, hardest_pairs, multi_similarity
from siamjax.mining._sampled import distance_weighted, random_triplets
from siamjax.mining._triplets import angular, batch_easy, batch_hard, easy_positive, hardest_k, semi_hard

__all__ = [
    "Candidates",
    "Memory",
    "Pairs",
    "Triplets",
    "angular",
    "batch_easy",
    "batch_hard",
    "candidates",
    "distance_weighted",
    "easy_hard",
    "easy_positive",
    "easy_to_hard",
    "hardest_k",
    "hardest_pairs",
    "init_memory",
    "limit_hardness",
    "lookup",
    "multi_similarity",
    "push",
    "random_triplets",
    "semi_hard",
]
