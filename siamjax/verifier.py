"""A trained network for use: are these two images of the same identity?"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib

import jax
import ml_collections
import numpy as np

from siamjax.data import images
from siamjax.evaluation import decision
from siamjax.evaluation.scorer import Scorer
from siamjax.files import shown
from siamjax.run import parts
from siamjax.training.checkpoint import restore_best

_INK = ("omniglot", "glyphs", "mnist")  # data sets of grey images with ink 255 on paper 0


@dataclasses.dataclass(frozen=True)
class Answer:
    """Whether two images are of the same identity: the network's `score`, higher for likelier the same, against the
    `threshold`; the Euclidean `distance` of their embeddings; and the calibrated `probability` 0..1 of "same"."""

    same: bool
    score: float
    threshold: float
    distance: float
    probability: float


class Verifier:
    """The best checkpoint of a run, with the threshold and calibration that were fitted on validation pairs.

    Attributes:
      config: the run's configuration.
      model: encoder and head; `variables`: their weights, {"encoder": ..., "head": ...}.
      image_shape: (h, w, c) of the images that it takes; `invert`: whether files are inverted, see `data.images.read`.
      decision: the `Decision` on scores.
      metric: "l2" or "cosine", if the nearest embeddings by it are those that score highest; or None.
      fingerprint: of the network and of how it takes its images: what it embedded, another network cannot read.
    """

    def __init__(
        self,
        run: str | os.PathLike,
        copies: int | None = None,
        convolution: str | None = None,
        *,
        threshold: float | None = None,
        far: float | None = None,
    ):
        """`run` is the folder of a run that was trained and evaluated.

        Args:
          run: the run folder.
          copies: in place of `evaluation.copies` of its configuration: that number, or 0, which has a threshold and
            calibration of its own.
          convolution: in place of `encoder.convolution`.
          threshold: in place of the one that was fitted; probabilities do not depend on it.
          far: instead, the share of different pairs that may be accepted, as the validation pairs tell. It is of single
            pairs: a stranger is compared with all images of a gallery, and any of them may accept.

        Raises:
          FileNotFoundError: the folder, its configuration, checkpoint or evaluation is not there.
          ValueError: the checkpoint is damaged, or of another version; there is no threshold for these `copies`, or
            `far` is less than the validation pairs can tell.
        """
        run = pathlib.Path(run).expanduser()
        for name, remedy in (
            ("config.json", "name the folder of a run (--workdir of the training)"),
            ("verification.json", f"evaluate the run first: python launch.py --mode evaluate --workdir {run}"),
        ):
            if not (run / name).is_file():
                raise FileNotFoundError(f"{run / name} is not there; {remedy}")
        try:
            self.config = config = ml_collections.ConfigDict(json.loads((run / "config.json").read_text()))
            config.encoder.convolution = convolution or config.encoder.convolution
            copies = config.evaluation.copies if copies is None else copies
            channels, self.invert = (
                (1, True) if config.data.name in _INK else (config.data.folder.channels, config.data.folder.invert)
            )
            self.image_shape = (config.data.size, config.data.size, channels)
            self.model, distort = parts.make_model(config), parts.make_augment(config, hide=False)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{run} is of another version, or damaged: {error}; train it again") from error
        self.decision = decision.of_copies(run, config.evaluation.copies, copies).moved(threshold, far)
        trained = restore_best(self.model, self.image_shape, run)
        params, statistics = trained.params, trained.batch_stats
        self.variables = {
            "encoder": {"params": params["encoder"], "batch_stats": statistics},
            "head": params["head"],
        }
        self._scorer = Scorer(
            self.model, params, statistics, copies=copies, distort=distort, image_shape=self.image_shape
        )
        of_head = {"euclidean": "l2", "squared_euclidean": "l2", "lp": "l2", "cosine": "cosine"}
        self.metric = of_head.get(config.head.distance.distance) if config.head.name == "distance" else None
        kind = [config.encoder.to_dict(), config.head.name, self.image_shape, self.invert, copies]
        digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode())
        for leaf in jax.tree.leaves(self.variables):
            digest.update(np.ascontiguousarray(leaf))
        self.fingerprint = digest.hexdigest()

    def read(self, paths: list[str | os.PathLike]) -> np.ndarray:
        """Image files as uint8 [n, h, w, c], the way they were read in training; of no files, n is 0.

        Raises:
          FileNotFoundError: a file is not there.
          ValueError: a file cannot be read as an image.
        """

        def one(path):
            if not os.path.isfile(path):
                raise FileNotFoundError(f"{shown(path)} is not there, or no file")
            return images.read(path, self.image_shape[0], self.image_shape[2], self.invert)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            pixels = list(pool.map(one, paths))
        return np.stack(pixels) if pixels else np.zeros((0, *self.image_shape), np.uint8)

    def embed(self, images: np.ndarray, description: str = "") -> np.ndarray:
        """uint8 [n, h, w, c] -> embeddings float32 [n, d]; with a `description`, behind a progress bar."""
        return self._scorer.embed(images, description)

    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Embeddings [n, d] and pairs of their numbers int [p, 2], 0..n-1 -> scores float32 [p].

        Raises:
          ValueError: a number is beyond the embeddings.
        """
        return self._scorer.score_pairs(embeddings, pairs)

    def score_all(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """Embeddings [q, d] and [n, d] -> scores float32 [q, n]."""
        return self._scorer.score_all(queries, gallery)

    def verify(self, first: str | os.PathLike, second: str | os.PathLike) -> Answer:
        """Whether the image files `first` and `second` show the same identity; raises as `read` does."""
        embeddings = self.embed(self.read([first, second]))
        score = float(self.score_pairs(embeddings, np.array([[0, 1]], np.int32))[0])
        return Answer(
            same=bool(self.decision.same(score)),
            score=score,
            threshold=self.decision.threshold,
            distance=float(np.linalg.norm(embeddings[0] - embeddings[1])),
            probability=float(self.decision.probability(score)),
        )
