"""A run: its folder, its settings, and the parts that they name."""

from siamjax.run._folder import Figures, Run

__all__ = ["Figures", "Run"]
