"""Training: ways to make batches, the step on one batch, and the loop around it."""

from siamjax.training.types import Batch, Batches, Objective

__all__ = ["Batch", "Batches", "Objective"]
