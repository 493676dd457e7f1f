"""Evaluation: trained embeddings and scores, and data -> numbers, each with trials, seed and 95 % interval."""
