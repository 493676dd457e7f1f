"""Galleries of known identities: who is this? New identities and images are added without training."""

from siamjax.gallery._folder import identities
from siamjax.gallery._gallery import Gallery
from siamjax.gallery._types import Enrolled, Found, Identified, Match, Renamed, Scorer, Store, UnknownIdentity

__all__ = [
    "Enrolled",
    "Found",
    "Gallery",
    "Identified",
    "Match",
    "Renamed",
    "Scorer",
    "Store",
    "UnknownIdentity",
    "identities",
]
