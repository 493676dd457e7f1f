"""A trained network: images to embeddings, embeddings to scores, and scores to answers."""

from siamjax.network._file import shipped, tested
from siamjax.network._network import Network
from siamjax.network._references import score_references
from siamjax.network._types import Answer, Inputs, Metric, inputs_of

__all__ = ["Answer", "Inputs", "Metric", "Network", "inputs_of", "score_references", "shipped", "tested"]
