"""Evaluation: a trained network and data -> figures, each with its trials, seed and 95 % interval."""

from siamjax.evaluation.evaluators import EVALUATORS, run
from siamjax.evaluation.types import Evaluator, Measure, PairScores, Skipped, Subject

__all__ = ["EVALUATORS", "Evaluator", "Measure", "PairScores", "Skipped", "Subject", "run"]
