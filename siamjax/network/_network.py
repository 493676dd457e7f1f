"""A trained network: images to embeddings, embeddings to scores, and scores to answers."""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import jax
import numpy as np
import numpy.typing as npt
from flax import linen as nn
from ml_collections import ConfigDict

from siamjax import heads, parallel
from siamjax.data import Images
from siamjax.data import images as image_files
from siamjax.decision import Decision
from siamjax.encoders import Towers
from siamjax.network._file import FILE, portable, write
from siamjax.network._places import stored
from siamjax.network._programs import BLOCK, checked_numbers, embed_program, filled_up, pairs_program, programs
from siamjax.network._references import verified
from siamjax.network._types import UNDECIDED, Answer, Inputs, Metric, inputs_of
from siamjax.progress import Progress
from siamjax.run import Run, parts
from siamjax.training.state import Model
from siamjax.training.types import Augment

# Distances that rank like a metric of a nearest-neighbour index.
_METRICS: dict[str, Metric] = {"euclidean": "l2", "squared_euclidean": "l2", "lp": "l2", "cosine": "cosine"}


class Network:
    """A trained encoder and head, with how its input is made and how its scores decide. `Network.load` reads one.

    Running statistics are frozen: the embedding of an image does not depend on the other images.

    Attributes:
      model: encoder and head; `variables`: their weights, {"encoder": {"params", "batch_stats"}, "head"}.
      towers: 2 if each side of a pair has an encoder of its own, see `tower`; otherwise 1.
      copies: number of distorted copies of each image over which its embedding is averaged.
      settings: the configuration of its training, or None.
      place: the folder or name that it was loaded from, or "".
    """

    def __init__(
        self,
        model: Model,
        params: Mapping[str, Any],
        batch_stats: Mapping[str, Any],
        *,
        inputs: Inputs | None = None,
        decisions: Mapping[int, Decision] | None = None,
        copies: int = 0,
        distort: Augment | None = None,
        settings: ConfigDict | None = None,
        place: str = "",
        chunk: int = 128,
    ):
        """Makes a network from its parts.

        Args:
          model: encoder and head.
          params: of the model, on the host: {"encoder", "head"}.
          batch_stats: running statistics of the encoder, on the host.
          inputs: images of another shape are refused; None accepts all.
          decisions: how scores decide, by the number of copies for which each was fitted.
          copies: an embedding is the mean over the image and this number of copies distorted by `distort`. All images
            get the same distortions; the mean of embeddings of length 1 is shorter than 1.
          distort: (keys [n], images float [n, h, w, c]) -> images. Pass the same function object to every network that
            uses it: it is compiled once per object.
          settings: the configuration of the training.
          place: folder or name that the network was loaded from, for messages.
          chunk: images per batch in `embed`, counting their copies.
        """
        self.model, self.copies, self.settings, self.place = model, copies, settings, place
        self.towers = 2 if isinstance(model.encoder, Towers) else 1
        self._inputs, self._distort = inputs, distort
        self.variables = {
            "encoder": {"params": params["encoder"], "batch_stats": batch_stats},
            "head": params["head"],
        }
        self._decisions = dict(decisions or {})
        self._decision = self._decisions.get(copies)
        self._chunk, self._programs = chunk, programs(model)
        self._embed = embed_program(model, distort if copies else None, copies)

    @classmethod
    def load(
        cls,
        place: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | None = None,
        copies: int | None = None,
        convolution: str | None = None,
        threshold: float | None = None,
        far: float | None = None,
        encoder: Any = None,
        head: nn.Module | None = None,
    ) -> Self:
        """Loads a trained network.

        Args:
          place: a run folder (its best or last checkpoint, see `train.keep`); a folder written by `save`; the name of a
            network that comes with siamjax, such as "omniglot-fast"; or of an architecture with published weights, such
            as "mobilenet_v2": its features of any photograph, by which `Gallery.search` finds similar ones.
          weights: of an architecture, as `siamjax.pretrained.load` takes them; None is its default.
          copies: replaces `evaluation.copies` of its training.
          convolution: replaces `encoder.convolution`; the embeddings stay the same.
          threshold: replaces the fitted threshold; probabilities do not depend on it.
          far: sets the threshold by its false accept rate, 0..1, on validation pairs. The rate is per pair: in a
            gallery, a stranger is compared with all images and accepted if any of them matches.
          encoder, head: those that `siamjax.fit` was given, if they were not names.

        Raises:
          FileNotFoundError: no network is found, or no weights of the architecture.
          ValueError: it is damaged or of another version; `threshold` or `far` is given but no decision was fitted for
            these `copies`; or `far` cannot be measured on the validation pairs.
        """
        found = stored(place, weights)
        config = found.config
        config.encoder.convolution = convolution or config.encoder.convolution
        own, inputs, model = config.evaluation.copies, inputs_of(config), parts.make_model(config, encoder, head)
        trained = found.restore(model, inputs.shape)
        decisions = found.decisions(trained)
        network = cls(
            model,
            trained.params,
            trained.batch_stats,
            inputs=inputs,
            decisions=decisions,
            copies=own if copies is None else copies,
            distort=parts.make_augment(config, hide=False),
            settings=config,
            place=found.place,
        )
        if threshold is not None or far is not None:
            network._decisions[network.copies] = network._decision = network.decision.moved(threshold, far)
        return network

    def save(self, folder: str | os.PathLike[str], precision: Literal["float32", "float16"] = "float32") -> None:
        """Writes the network to `folder`/network.safetensors, which `load` reads.

        Args:
          folder: a new or empty one, or one with a saved network, which is replaced.
          precision: of the weights; float16 moves an embedding by about a thousandth of its length.

        Raises:
          ValueError: `folder` has other files; or the network has no `settings`, which `load` needs.
        """
        if self.settings is None:
            raise ValueError(
                "this network was made without settings, which `load` needs; pass settings=CONFIG to Network"
            )
        config = portable(self.settings, self._inputs)
        config.evaluation.copies = self.copies
        folder = pathlib.Path(folder).expanduser()
        write(folder / FILE, config, self.variables, self._decisions, precision)
        if precision == "float32":
            self.place = self.place or str(folder.resolve())  # Where a gallery finds it again.

    def tower(self, side: Literal[0, 1]) -> "Network":
        """The encoder of the first (0) or second (1) inputs of pairs, as a network like any other.

        Embeddings of both can be compared: a gallery of photos by `tower(1)` answers sketches that `tower(0)` embeds.
        The decision is that of pairs with one of each, not of two photos.

        Raises:
          ValueError: there is one encoder for both (`towers` is 1), or `side` is neither 0 nor 1.
        """
        encoder, config = self.model.encoder, self.settings
        if not isinstance(encoder, Towers):
            raise ValueError("towers=1: both sides share the encoder of this network, which is used without tower()")
        if side not in (0, 1):
            raise ValueError(f"side={side} must be 0, for the first inputs of pairs, or 1, for the second")
        variables = encoder.of(self.variables["encoder"], side)
        if config is not None:
            config = config.copy_and_resolve_references()
            config.encoder.towers = 1
        return Network(
            Model(encoder.encoder, self.model.head),
            {"encoder": variables["params"], "head": self.variables["head"]},
            variables["batch_stats"],
            inputs=self._inputs,
            decisions=self._decisions,
            copies=self.copies,
            distort=self._distort,
            settings=config,
            chunk=self._chunk,
        )

    @property
    def decision(self) -> Decision:
        """How scores become answers.

        Raises:
          ValueError: no decision was fitted for this number of copies.
        """
        if self._decision is None:
            name = self.place or "the network"
            fitted = " or ".join(f"copies={copies}" for copies in sorted(self._decisions))
            remedies, config = [f"load it with {fitted}"] if fitted else [], self.settings
            # Data that `siamjax.fit` was given is in no file that could be evaluated.
            of_files = Run(name).is_started and config is not None and not config.data.arrays.digest
            if of_files and config is not None and self.copies in (0, config.evaluation.copies):
                remedies.append(f"evaluate the run (again): siamjax evaluate {name}")
            if not remedies:
                raise ValueError(f"{name} has no threshold, {UNDECIDED}")
            raise ValueError(f"{name} has no threshold for copies={self.copies}; {', or '.join(remedies)}")
        return self._decision

    def probability(self, scores: npt.ArrayLike) -> np.ndarray:
        """Calibrated probabilities of "same" for logits float [n], float64 [n]; NaN if no decision was fitted."""
        if self._decision is None:
            return np.full(np.shape(scores), np.nan)
        return self._decision.probability(scores)

    @property
    def metric(self) -> Metric | None:
        """The metric whose nearest embeddings are those with the highest scores; None if there is no such metric."""
        head = self.model.head
        return _METRICS.get(head.distance) if isinstance(head, heads.Distance) else None

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of weights and inputs; only embeddings of networks with the same fingerprint can be compared."""
        return self._digest([self._inputs.identifying() if self._inputs else None, self.copies])

    def matches(self, fingerprint: str) -> bool:
        """Whether `fingerprint` is of this network, as computed by this or an older version of siamjax."""
        if fingerprint == self.fingerprint:
            return True
        if self._inputs is None or not Run(self.place).is_started:
            return False
        saved = Run(self.place).saved
        inputs = [self._inputs.shape, self._inputs.invert, self.copies]
        return fingerprint == self._digest([saved["encoder"], saved["head"]["name"], *inputs])

    def _digest(self, kind):
        digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode())
        for leaf in jax.tree.leaves(self.variables):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()

    @property
    def inputs(self) -> Inputs:
        """The images that the network takes.

        Raises:
          ValueError: the network was made without `inputs`.
        """
        if self._inputs is None:
            raise ValueError(
                "this network was made without inputs, which say how to read image files; pass inputs=Inputs(SHAPE)"
            )
        return self._inputs

    def read(self, paths: Sequence[str | os.PathLike[str]]) -> np.ndarray:
        """Reads image files as in training: uint8 [n, h, w, c]; n may be 0.

        Raises:
          FileNotFoundError: a file is not found.
          ValueError: a file cannot be read as an image, or the network was made without `inputs`.
        """
        shape, invert = self.inputs.shape, self.inputs.invert
        if len(shape) != 3 or self.inputs.dtype != "uint8":
            raise ValueError(f"this network takes {self.inputs}, not image files; pass arrays to `embed`")
        return image_files.read_all(paths, shape[:2], shape[2], invert, self.inputs.ink, self.inputs.faces)

    def embed(self, images: npt.ArrayLike | Images, description: str = "") -> np.ndarray:
        """Embeds images.

        Args:
          images: uint8 [n, h, w, c]; or inputs of the network's own shape and type, see `inputs`; an array or lists.
          description: shown with a progress bar; no bar if "".

        Returns:
          Embeddings float32 [n, d].

        Raises:
          ValueError: the images do not match the network's `inputs`; or it has two towers, see `tower`.
        """
        if self._inputs is not None:
            images = self._inputs.checked(images)
        elif not isinstance(images, Images):
            images = np.asarray(images)
        hidden = not (description and parallel.is_main_process())
        chunk = max(1, self._chunk // (1 + self.copies))
        with Progress(description, len(images), hidden=hidden) as bar:
            return parallel.map_chunks(self._embed, self.variables["encoder"], images, chunk, bar)

    def embed_pairs(self, images: np.ndarray | Images, pairs: np.ndarray, description: str = "") -> np.ndarray:
        """Embeds images for `score_pairs`, each by the encoder of its side.

        Args:
          images: as `embed` takes them.
          pairs: int [p, 2], the numbers of the first and the second image of each pair.
          description: as of `embed`.

        Returns:
          Float32 [n, d]. Of two towers [n, 2, d], by either: zeros where an image is on that side of no pair.
        """
        if self.towers == 1:
            return self.embed(images, description)
        sides = [np.unique(checked_numbers(side, len(images), "pairs")) for side in np.asarray(pairs).T]
        of_sides = [self.tower(side).embed(images[sides[side]], description) for side in (0, 1)]
        embeddings = np.zeros((len(images), 2, of_sides[0].shape[1]), np.float32)
        for side in (0, 1):
            embeddings[sides[side], side] = of_sides[side]
        return embeddings

    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Scores pairs of embeddings.

        Args:
          embeddings: float [n, d]; or [n, 2, d], by both towers, see `embed_pairs`.
          pairs: int [p, 2], image numbers 0..n-1.

        Returns:
          Logits of "same", float32 [p].

        Raises:
          ValueError: `pairs` has another shape, or a number is out of range.
        """
        pairs = np.asarray(pairs)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"pairs: found shape {list(pairs.shape)}, expected [p, 2]: two image numbers per pair")
        pairs = checked_numbers(pairs, len(embeddings), "pairs")
        if not len(pairs):
            return np.zeros(0, np.float32)
        if embeddings.ndim == 3:
            embeddings, pairs = embeddings.reshape(-1, embeddings.shape[2]), 2 * pairs + np.arange(2, dtype=np.int32)
        arguments = self.variables["head"], parallel.padded(embeddings)
        name, chunk = pairs_program(self.model, embeddings, len(pairs))
        return parallel.map_chunks(self._programs[name], arguments, pairs, chunk)

    def score_all(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """Scores all queries [q, d] against a gallery [n, d], in blocks: logits of "same", float32 [q, n]."""
        scores = np.empty((len(queries), len(gallery)), np.float32)
        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK]
            arguments = self.variables["head"], parallel.padded(block)
            of_block = parallel.map_chunks(self._programs["all"], arguments, filled_up(gallery, len(block)), BLOCK)
            scores[start : start + BLOCK] = of_block[: len(gallery), : len(block)].T
        return scores

    def score_trials(
        self, embeddings: np.ndarray, query: np.ndarray, support: np.ndarray, *, prototypes: bool = False
    ) -> np.ndarray:
        """Scores one-shot or few-shot trials: the mean logit over the shots of each identity.

        Args:
          embeddings: float [n, d].
          query: int [r, q], image numbers 0..n-1: r runs of q queries each.
          support: int [r, ways, shots], image numbers.
          prototypes: score with the mean embedding of the shots instead, which is not scaled back to length 1. Snell,
            Swersky, Zemel: Prototypical Networks for Few-shot Learning (2017); https://arxiv.org/abs/1703.05175.

        Returns:
          Float32 [r, q, ways].

        Raises:
          ValueError: a number is out of range, or `query` and `support` have different numbers of runs.
        """
        runs, ways, shots = support.shape
        if query.shape[:-1] != (runs,):
            raise ValueError(f"query: found shape {list(query.shape)}, expected [{runs}, q]: support has {runs} runs")
        query = checked_numbers(query, len(embeddings), "query")
        support = checked_numbers(support, len(embeddings), "support")
        many = pairs_program(self.model, embeddings, support.size)[0] == "many_pairs"
        if many and query.shape[1] == 1 and not prototypes:
            pairs = np.stack([np.broadcast_to(query[:, :, None], support.shape), support], axis=-1)
            return self.score_pairs(embeddings, pairs.reshape(-1, 2)).reshape(runs, 1, ways, shots).mean(axis=3)
        chunk = max(1, 2**25 // (query.shape[1] * ways * shots * embeddings.shape[1]))
        arguments = self.variables["head"], parallel.padded(embeddings)
        program = self._programs["prototypes" if prototypes else "trials"]
        return parallel.map_chunks(program, arguments, (query, support), chunk)

    def verify(
        self, first: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], second: str | os.PathLike[str]
    ) -> Answer:
        """Decides whether two image files show the same identity; raises as `read` and `decision` do.

        `first` may be up to 100 different files, all of one identity: references that `second` is compared with
        together, see `siamjax.network.score_references`. Threshold and probability are those fitted to single pairs.
        With two towers, `first` is one file of the first side, `second` of the second.
        """
        return verified(self, first, second)
