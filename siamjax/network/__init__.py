"""A trained network: images to embeddings, embeddings to scores, and scores to answers."""

from siamjax.network._network import Network, inputs_of, shipped
from siamjax.network._types import Answer, Inputs, Metric

__all__ = ["Answer", "Inputs", "Metric", "Network", "inputs_of", "shipped"]
