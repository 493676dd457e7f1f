"""How scores become answers: a threshold, which can be moved, and a calibrated probability, which stays as it is."""

import bisect
import dataclasses
import json
import pathlib

import numpy as np
import scipy.special


@dataclasses.dataclass(frozen=True)
class FalseAccepts:
    """What share of pairs of different identities a threshold accepts, by the validation pairs.

    Attributes:
      pairs: different pairs, each counted once; `identities`: that they are of, None where it is not known.
      accepted: rising numbers of pairs, from 0; `threshold`: for each, the lowest that accepts no more of them.
    """

    pairs: int
    identities: int | None
    accepted: tuple[int, ...]
    threshold: tuple[float, ...]

    def at(self, rate: float) -> float:
        """The threshold that accepts at most the share `rate` of these pairs.

        Raises:
          ValueError: `rate` is not within 0 and 1, or less than one of the pairs.
        """
        if not 0 < rate < 1:
            raise ValueError(f"far={rate:g} must be a share between 0 and 1, such as 0.01")
        if rate * self.pairs < 1:
            raise ValueError(
                f"far={rate:g} is less than one of the {self}; the least that they can tell is {1 / self.pairs:.2g}: "
                "ask for that, or validate on more identities and evaluation.pairs"
            )
        # The product of two floats may fall just short of a whole number.
        return self.threshold[bisect.bisect_right(self.accepted, rate * self.pairs + 1e-9) - 1]

    def __str__(self):
        of = "" if self.identities is None else f" of {self.identities} identities"
        return f"{self.pairs:,} different validation pairs{of}"


@dataclasses.dataclass(frozen=True)
class Decision:
    """How scores become answers: same where score > `threshold`; and the probability of "same",
    1 / (1 + exp(−slope · (score − even))), which is ½ where the score is `even`.

    As fitted, `threshold` is `even`, so that answer and probability agree. Moving the threshold changes answers alone.
    Fitted on pairs of which as many are the same as are different: where fewer are, the probability is too high.
    """

    threshold: float
    slope: float
    even: float
    false_accepts: FalseAccepts | None = None

    def same(self, scores: np.ndarray) -> np.ndarray:
        """bool [n]."""
        return np.asarray(scores, np.float64) > self.threshold

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """float64 [n], of "same"."""
        return scipy.special.expit(self.slope * (np.asarray(scores, np.float64) - self.even))

    def moved(self, threshold: float | None = None, far: float | None = None) -> "Decision":
        """The same probabilities, with another `threshold`, or that of the false accept rate `far` of single pairs.

        Raises:
          ValueError: both are given, or the validation pairs cannot tell `far`, see `FalseAccepts.at`.
        """
        if threshold is not None and far is not None:
            raise ValueError(f"threshold={threshold:g} and far={far:g}: give one of them, the other follows")
        if far is not None:
            if self.false_accepts is None:
                raise ValueError(
                    f"far={far:g}: this run was evaluated before false accept rates were kept; evaluate it again "
                    "(launch.py --mode evaluate --workdir RUN), or give a threshold"
                )
            threshold = self.false_accepts.at(far)
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold={threshold} must be a finite score")
        return self if threshold is None else dataclasses.replace(self, threshold=float(threshold))

    @classmethod
    def read(cls, saved: dict) -> "Decision":
        """What `dataclasses.asdict` made of a decision.

        Formerly there were two slopes, "below" and "above" the threshold. The gentler is taken: the other, fitted to
        few mistakes, promised too much.

        Raises:
          KeyError, TypeError: something is missing, or there is too much.
        """
        if "even" not in saved:
            return cls(saved["threshold"], min(saved["below"], saved["above"]), saved["threshold"])
        accepts = saved["false_accepts"]
        if accepts is not None:
            accepts = FalseAccepts(**accepts | {key: tuple(accepts[key]) for key in ("accepted", "threshold")})
        return cls(**saved | {"false_accepts": accepts})


def of_copies(run: pathlib.Path, trained: int, copies: int) -> Decision:
    """What was fitted for embeddings over so many `copies` in a `run` folder, whose `evaluation.copies` is `trained`.

    Raises:
      ValueError: there is nothing for these `copies`, or the file is damaged.
    """
    path = run / "verification.json"
    again = f"evaluate the run again: python launch.py --mode evaluate --workdir {run}"
    try:
        saved = json.loads(path.read_text())
        fitted = {0: saved.get("decision_without_copies")} | {trained: saved["decision"]}
        found = fitted.get(copies) and Decision.read(fitted[copies])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is of another version, or damaged: {error}; {again}") from error
    if found is None and copies == 0:
        raise ValueError(f"{path} has no threshold for copies=0, as an exported network needs it; {again}")
    if found is None:
        raise ValueError(f"{path} has no threshold for copies={copies}; choose 0, or the run's own copies, {trained}")
    return found
