"""How scores become answers: a threshold, which can be moved, and a calibrated probability."""

import bisect
import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from siamjax.familiar import Familiar


@dataclasses.dataclass(frozen=True)
class FalseAccepts:
    """The false accept rate of each threshold, measured on validation pairs.

    Attributes:
      pairs: number of distinct different pairs.
      identities: number of identities in them; None if unknown.
      accepted: increasing numbers of accepted pairs, from 0.
      threshold: for each number, the lowest threshold that accepts no more pairs.
    """

    pairs: int
    identities: int | None
    accepted: tuple[int, ...]
    threshold: tuple[float, ...]

    def at(self, rate: float) -> float:
        """The lowest threshold with a false accept rate of at most `rate`, 0..1.

        Raises:
          ValueError: `rate` is not between 0 and 1, or amounts to less than one pair.
        """
        if not 0 < rate < 1:
            raise ValueError(f"far={rate:g} must be a share between 0 and 1, such as 0.01")
        if rate * self.pairs < 1:
            raise ValueError(
                f"far={rate:g} is less than one of the {self}; the lowest measurable rate is "
                f"{1 / self.pairs:.2g}. Use that, or raise evaluation.pairs and the number of validation identities"
            )
        # The product of two floats may fall just short of a whole number.
        return self.threshold[bisect.bisect_right(self.accepted, rate * self.pairs + 1e-9) - 1]

    def __str__(self) -> str:
        of = "" if self.identities is None else f" of {self.identities} identities"
        return f"{self.pairs:,} different validation pairs{of}"


@dataclasses.dataclass(frozen=True)
class Decision:
    """How scores become answers: same where score > `threshold`; and the probability of "same",
    1 / (1 + exp(−slope · (score − even))), which is ½ where the score is `even`, but at least `least` and at most
    `most`. These bounds follow from the number of pairs: after n same pairs and no other, the next one is the same with
    probability (n + 1) / (n + 2).

    As fitted, `threshold` equals `even`, so that answer and probability agree; moving the threshold changes only the
    answers. Both are fitted on equally many same and different pairs: where same pairs are rarer, the probability is
    too high. `familiar` tells images of the kind that they were fitted to from others; it is None where inputs are not
    images, and in what older versions stored. `usual` is the mean score of two images of one identity, by which several
    references are judged, see `siamjax.network.score_references`; None in what older versions stored.
    """

    threshold: float
    slope: float
    even: float
    false_accepts: FalseAccepts | None = dataclasses.field(default=None, repr=False)
    least: float = 0.0
    most: float = 1.0
    familiar: Familiar | None = dataclasses.field(default=None, repr=False)
    usual: float | None = dataclasses.field(default=None, repr=False)

    def same(self, scores: npt.ArrayLike) -> np.ndarray:
        """Whether each score means "same": scores float [n] -> bool [n]."""
        return np.asarray(scores, np.float64) > self.threshold

    def probability(self, scores: npt.ArrayLike) -> np.ndarray:
        """The probability of "same": scores float [n] -> float64 [n], `least` to `most`."""
        logits = self.slope * (np.asarray(scores, np.float64) - self.even)
        with np.errstate(invalid="ignore"):  # NaN in, NaN out.
            likely = np.exp(-np.logaddexp(0, -logits))  # Importing SciPy's `expit` takes a quarter of a second.
        return np.clip(likely, self.least, self.most)

    def knows(self, images: np.ndarray) -> np.ndarray:
        """Whether each of images uint8 [n, h, w, c] is of the kind that this was fitted to, see `Familiar`: bool [n].

        True where that is not known. Of another kind, answers and probabilities mean nothing.
        """
        if self.familiar is None or images.dtype != np.uint8 or images.ndim != 4:
            return np.ones(len(images), bool)
        return self.familiar.knows(images)

    def moved(self, threshold: float | None = None, far: float | None = None) -> "Decision":
        """A copy with another `threshold`, or with the one for the false accept rate `far` of single pairs, 0..1.

        Raises:
          ValueError: both are given, or `far` cannot be measured on the validation pairs; see `FalseAccepts.at`.
        """
        if threshold is not None and far is not None:
            raise ValueError(f"threshold={threshold:g} and far={far:g}: give only one")
        if far is not None:
            if self.false_accepts is None:
                raise ValueError(
                    f"far={far:g}: this run was evaluated before false accept rates were stored; evaluate it again "
                    "(siamjax evaluate RUN), or give a threshold"
                )
            threshold = self.false_accepts.at(far)
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold={threshold} must be a finite score")
        return self if threshold is None else dataclasses.replace(self, threshold=float(threshold))

    @classmethod
    def read(cls, saved: dict[str, Any]) -> "Decision":
        """Reads a decision from what `dataclasses.asdict` made of it.

        Older versions stored two slopes, "below" and "above" the threshold. The smaller one is used: the other was
        fitted to few mistakes and gave probabilities that were too extreme.

        Raises:
          KeyError, TypeError: a field is missing or unknown.
          ValueError: a value is out of its range.
        """
        if "even" not in saved:
            fields = {"slope": min(saved["below"], saved["above"]), "even": saved["threshold"]}
            saved = {"threshold": saved["threshold"], "false_accepts": None, **fields}
        accepts = saved["false_accepts"]
        if accepts is not None:
            accepts = FalseAccepts(**accepts | {key: tuple(accepts[key]) for key in ("accepted", "threshold")})
            _check_accepts(accepts)
        numbers = {name: saved[name] for name in ("threshold", "slope", "even")}
        if saved.get("usual") is not None:
            numbers["usual"] = saved["usual"]
        for name, value in numbers.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name}={value!r} must be a finite number")
        if saved["slope"] < 0:
            raise ValueError(f"slope={saved['slope']} must not be negative")
        least, most = saved.get("least", 0.0), saved.get("most", 1.0)  # Older versions had no bounds.
        if not 0 <= least <= 0.5 <= most <= 1:
            raise ValueError(f"least={least} and most={most} must be in 0 to 0.5, and in 0.5 to 1")
        familiar = saved.get("familiar")
        return cls(
            **{**saved, "false_accepts": accepts, "familiar": None if familiar is None else Familiar.read(familiar)}
        )


def _check_accepts(accepts):
    """Raises ValueError unless numbers of accepted pairs increase and their thresholds fall."""
    numbers, thresholds = np.array(accepts.accepted), np.array(accepts.threshold, np.float64)
    whole = np.issubdtype(numbers.dtype, np.integer) and numbers.shape == thresholds.shape and numbers.ndim == 1
    if not whole or not numbers.size or not np.all(np.isfinite(thresholds)):
        raise ValueError("false_accepts must hold a finite threshold for each number of accepted pairs")
    if (
        np.any(np.diff(numbers) <= 0)
        or np.any(np.diff(thresholds) > 0)
        or numbers[0] < 0
        or numbers[-1] > accepts.pairs
    ):
        raise ValueError("false_accepts must hold increasing numbers of accepted pairs, and falling thresholds")
