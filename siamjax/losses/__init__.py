"""Siamese losses: per-item values, then a reduction; nothing selected gives 0, in value and gradient."""

from siamjax.losses.pair import balanced_binary_cross_entropy, binary_cross_entropy

__all__ = ["balanced_binary_cross_entropy", "binary_cross_entropy"]
