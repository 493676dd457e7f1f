"""A run: its folder, its settings, and what is made from them."""

from siamjax.run._folder import Figures, Run, check_unseen

__all__ = ["Figures", "Run", "check_unseen"]
