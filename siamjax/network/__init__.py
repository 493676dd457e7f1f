"""A trained network: images to embeddings, embeddings to scores, and scores to answers."""

from siamjax.network._network import Answer, Inputs, Metric, Network, inputs_of, shipped

__all__ = ["Answer", "Inputs", "Metric", "Network", "inputs_of", "shipped"]
