"""A trained network as files that need no siamjax: StableHLO programs or ONNX models, and a card describing them."""

from siamjax.export._export import Format, check, export, exported

__all__ = ["Format", "check", "export", "exported"]
