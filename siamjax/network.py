"""A trained network: images to embeddings, embeddings to scores, and scores to answers."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import chex
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from siamjax import files, heads, parallel
from siamjax.data import SOURCES, Images
from siamjax.data import images as image_files
from siamjax.decision import Decision
from siamjax.progress import Progress
from siamjax.run import Run, parts, settings
from siamjax.training.state import Model
from siamjax.training.types import Augment

Metric = Literal["l2", "cosine"]

_BLOCK = 4096  # pairs, or embeddings of a gallery and queries, that are scored at a time
_FILE = "network.safetensors"
_SHIPPED = pathlib.Path(__file__).parent / "weights"
# Whose order is the order of a metric that an index of nearest neighbours knows.
_METRICS: dict[str, Metric] = {"euclidean": "l2", "squared_euclidean": "l2", "lp": "l2", "cosine": "cosine"}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a network takes: images of `shape` (h, w, c), made of files that are inverted if `invert` says so."""

    shape: tuple[int, int, int]
    invert: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """Whether two images show the same identity.

    Attributes:
      same: whether the score is above the threshold.
      score: the head's, higher for more similar.
      threshold: of the network's decision.
      distance: between the two embeddings, Euclidean.
      probability: calibrated, of "same", 0..1.
    """

    same: bool
    score: float
    threshold: float
    distance: float
    probability: float


class Network:
    """A trained encoder and head, with how an input is made and how scores decide. `Network.load` makes one.

    Running statistics are frozen: an image's embedding does not depend on the others.

    Attributes:
      model: encoder and head; `variables`: their weights, {"encoder": {"params", "batch_stats"}, "head"}.
      copies: distorted copies of each image over which its embedding is averaged, too.
      settings: the configuration of its training, if there is one.
      place: the folder or name that it was loaded from; "" for none.
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
        """Args:
        model: encoder and head.
        params, batch_stats: as in `State`, on the host; `params` has the parts "encoder" and "head".
        inputs: images of another shape are refused; None takes any.
        decisions: how scores decide, by the number of copies that it was fitted for.
        copies: an embedding is the mean of the image's own and of those of so many copies, distorted by `distort`. All
          images get the same distortions; the mean of embeddings of length 1 is shorter.
        distort: (keys [n], images float [n, h, w, c]) -> images; a function that is made once.
        settings: the configuration of the training.
        place: what `load` was given.
        chunk: images that are embedded at a time.
        """
        self.model, self.copies, self.settings, self.place = model, copies, settings, place
        self._inputs = inputs
        self.variables = {
            "encoder": {"params": params["encoder"], "batch_stats": batch_stats},
            "head": params["head"],
        }
        self._decisions = dict(decisions or {})
        self._decision = self._decisions.get(copies)
        self._chunk, self._programs = chunk, _programs(model)
        self._embed_copy = _copy_program(model, distort)

    @classmethod
    def load(
        cls,
        place: str | os.PathLike[str],
        *,
        copies: int | None = None,
        convolution: str | None = None,
        threshold: float | None = None,
        far: float | None = None,
    ) -> Self:
        """A trained network.

        Args:
          place: a run folder (its best checkpoint, or the last, as `train.keep` says); a folder of `save`; or the name
            of a network that comes with siamjax, "omniglot-fast".
          copies: in place of `evaluation.copies` of its training.
          convolution: in place of `encoder.convolution`; the embeddings are the same.
          threshold: in place of the fitted one; probabilities do not depend on it.
          far: instead, the share of different pairs that may be accepted, measured on validation pairs. It is of single
            pairs: a stranger is compared with all images of a gallery, and any of them may accept.

        Raises:
          FileNotFoundError: there is no network in `place`.
          ValueError: it is damaged or of another version; `threshold` or `far` is given and there is no decision for
            these `copies`, or `far` cannot be measured on the validation pairs.
        """
        folder, run = pathlib.Path(place).expanduser(), Run(place)
        stored = next((path / _FILE for path in (folder, _SHIPPED / place) if (path / _FILE).is_file()), None)
        if run.is_started or (stored is None and folder.is_dir()):
            config = run.settings
        elif stored is not None:
            config, params, batch_stats, decisions = _stored(stored)
        else:
            raise FileNotFoundError(
                f"{place} is no folder, nor one of the networks that come with siamjax ({', '.join(shipped())}); name "
                "a run folder (--workdir of the training)"
            )
        config.encoder.convolution = convolution or config.encoder.convolution
        own, inputs, model = config.evaluation.copies, inputs_of(config), parts.make_model(config)
        if run.is_started:
            decisions = run.figures.decisions(own)
            trained, _ = run.restore(model, inputs.shape)
            params, batch_stats = trained.params, trained.batch_stats
        network = cls(
            model,
            params,
            batch_stats,
            inputs=inputs,
            decisions=decisions,
            copies=own if copies is None else copies,
            distort=parts.make_augment(config, hide=False),
            settings=config,
            place=str(folder.resolve()) if folder.is_dir() else str(place),
        )
        if threshold is not None or far is not None:
            network._decision = network.decision.moved(threshold, far)
        return network

    def save(self, folder: str | os.PathLike[str], precision: Literal["float32", "float16"] = "float32") -> None:
        """Stores the network in `folder`, for `load`: one file, network.safetensors.

        Args:
          folder: created if need be; another network there is replaced.
          precision: of the weights; 16 bits move an embedding by about a thousandth of its length.

        Raises:
          ValueError: the network has no `settings` to make it again from.
        """
        if self.settings is None:
            raise ValueError("this network was made without settings, which `save` stores to make it again")
        config = self.settings.copy_and_resolve_references()
        config.data.data_dir = config.data.manual_dir = ""  # Of no use to others.
        config.evaluation.copies = self.copies
        encoder = self.variables["encoder"]
        tree = {
            "params": {"encoder": encoder["params"], "head": self.variables["head"]},
            "batch_stats": encoder["batch_stats"],
        }
        arrays = flax.traverse_util.flatten_dict(tree, sep="/")
        decisions = {copies: dataclasses.asdict(decision) for copies, decision in self._decisions.items()}
        content = safetensors.numpy.save(
            {name: np.asarray(value, precision) for name, value in arrays.items()},
            metadata={"config": config.to_json(), "decisions": json.dumps(decisions)},
        )
        files.write(pathlib.Path(folder).expanduser() / _FILE, content)

    @property
    def decision(self) -> Decision:
        """How scores become answers.

        Raises:
          ValueError: none was fitted for this number of copies.
        """
        if self._decision is None:
            known = f"; it has one for copies={min(self._decisions)}" if self._decisions else ""
            raise ValueError(
                f"{self.place or 'the network'} has no threshold for copies={self.copies}{known}. Evaluate the run "
                f"(again): python launch.py --mode evaluate --workdir {self.place or 'RUN'}"
            )
        return self._decision

    @property
    def metric(self) -> Metric | None:
        """The metric by which the nearest embeddings are those that score highest, if there is one."""
        head = self.model.head
        return _METRICS.get(head.distance) if isinstance(head, heads.Distance) else None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of weights and inputs: what a network embedded, one of another fingerprint cannot read."""
        return self._digest([dataclasses.asdict(self._inputs) if self._inputs else None, self.copies])

    def matches(self, fingerprint: str) -> bool:
        """Whether `fingerprint` is this network's, also as older versions made it."""
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
        """The images that it takes.

        Raises:
          ValueError: the network does not say.
        """
        if self._inputs is None:
            raise ValueError("this network was made without inputs, which say how to read an image file")
        return self._inputs

    def read(self, paths: Sequence[str | os.PathLike[str]]) -> np.ndarray:
        """Image files as uint8 [n, h, w, c], read as in training; n may be 0.

        Raises:
          FileNotFoundError: a file is not there.
          ValueError: a file cannot be read as an image, or the network does not say what it takes.
        """
        (height, width, channels), invert = self.inputs.shape, self.inputs.invert

        def one(path):
            if not os.path.isfile(path):
                raise FileNotFoundError(f"{files.shown(path)} is not there, or no file")
            return image_files.read(path, height, channels, invert)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            pixels = list(pool.map(one, paths))
        return np.stack(pixels) if pixels else np.zeros((0, height, width, channels), np.uint8)

    def embed(self, images: np.ndarray | Images, description: str = "") -> np.ndarray:
        """uint8 [n, h, w, c] -> embeddings float32 [n, d]; with a `description`, under a progress bar.

        Raises:
          ValueError: the images are not of the network's `inputs`.
        """
        if self._inputs and (tuple(images.shape[1:]) != self._inputs.shape or images.dtype != np.uint8):
            height, width, channels = self._inputs.shape
            raise ValueError(
                f"this network takes images uint8 [n, {height}, {width}, {channels}], found {images.dtype} "
                f"{list(images.shape)}; resize them first"
            )
        hidden = not (description and parallel.is_main_process())
        variables = self.variables["encoder"]
        with Progress(description, (1 + self.copies) * len(images), hidden=hidden) as bar:
            embeddings = parallel.map_chunks(self._programs["embed"], variables, images, self._chunk, bar)
            for copy in range(self.copies):
                arguments = (variables, jax.random.key(copy))
                embeddings += parallel.map_chunks(self._embed_copy, arguments, images, self._chunk, bar)
        return embeddings / (1 + self.copies)

    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Embeddings [n, d] and pairs of their numbers int [p, 2], 0..n-1 -> logits of "same" float32 [p].

        Raises:
          ValueError: the pairs are of another shape, or a number is beyond the embeddings.
        """
        pairs = np.asarray(pairs)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"pairs: found shape {list(pairs.shape)}, expected [p, 2]: two image numbers per pair")
        pairs = _numbers(pairs, len(embeddings), "pairs")
        if not len(pairs):
            return np.zeros(0, np.float32)
        arguments = self.variables["head"], parallel.padded(embeddings)
        return parallel.map_chunks(self._programs["pairs"], arguments, pairs, _BLOCK)

    def score_all(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """Embeddings [q, d] and [n, d] -> logits of "same" float32 [q, n], a block of both at a time."""
        scores = np.empty((len(queries), len(gallery)), np.float32)
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            arguments = self.variables["head"], parallel.padded(block)
            of_block = parallel.map_chunks(self._programs["all"], arguments, gallery, _BLOCK)
            scores[start : start + _BLOCK] = of_block[:, : len(block)].T
        return scores

    def score_trials(self, embeddings: np.ndarray, query: np.ndarray, support: np.ndarray) -> np.ndarray:
        """The mean logit of each query with each identity of its support set.

        Args:
          embeddings: [n, d].
          query: int [r, q], numbers 0..n-1: r runs of q queries each.
          support: int [r, ways, shots], their numbers.

        Returns:
          float32 [r, q, ways].

        Raises:
          ValueError: a number is beyond the embeddings.
        """
        _, ways, shots = support.shape
        numbers = (_numbers(query, len(embeddings), "query"), _numbers(support, len(embeddings), "support"))
        chunk = max(1, 2**25 // (query.shape[1] * ways * shots * embeddings.shape[1]))
        arguments = self.variables["head"], parallel.padded(embeddings)
        return parallel.map_chunks(self._programs["trials"], arguments, numbers, chunk)

    def verify(self, first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Answer:
        """Whether the image files `first` and `second` show the same identity; raises as `read` and `decision` do."""
        decision, embeddings = self.decision, self.embed(self.read([first, second]))
        score = float(self.score_pairs(embeddings, np.array([[0, 1]], np.int32))[0])
        return Answer(
            same=bool(decision.same(score)),
            score=score,
            threshold=decision.threshold,
            distance=float(np.linalg.norm(embeddings[0] - embeddings[1])),
            probability=float(decision.probability(score)),
        )


def shipped() -> list[str]:
    """The names of the networks that come with siamjax."""
    return sorted(path.parent.name for path in _SHIPPED.glob(f"*/{_FILE}"))


def inputs_of(config: ConfigDict) -> Inputs:
    """What a network of this configuration takes."""
    source, size = SOURCES[config.data.name], config.data.size
    return Inputs((size, size, source.channels(config.data)), source.invert(config.data))


def _stored(path):
    """Configuration, weights, running statistics and decisions of a file of `Network.save`."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            saved = file.metadata()
            tree = {name: file.get_tensor(name).astype(np.float32) for name in file.offset_keys()}
        config = settings.read(json.loads(saved["config"]))
        decisions = json.loads(saved.get("decisions", "{}"))
        decisions = {int(copies): Decision.read(decision) for copies, decision in decisions.items()}
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is of another version, or damaged: {error}; save the network again") from error
    tree = flax.traverse_util.unflatten_dict(tree, sep="/")
    return config, tree["params"], tree.get("batch_stats", {}), decisions


def _numbers(numbers, count, name):
    """`numbers` as int32, checked to be of `count` images: JAX would take the nearest for one that is not there."""
    numbers = np.asarray(numbers)
    if not numbers.size:
        return numbers.astype(np.int32)
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name}: found {numbers.dtype}, expected image numbers, integers 0 to {count - 1}")
    outside = numbers[(numbers < 0) | (numbers >= count)]
    if len(outside):
        raise ValueError(
            f"{name}: found image number {outside[0]}, but the {count} images are numbered 0 to {count - 1}"
        )
    return numbers.astype(np.int32)


@functools.lru_cache(maxsize=8)
def _copy_program(model, distort):
    """As "embed" below, of distorted images: (variables, key), images -> embeddings."""

    def embed_copy(arguments, images):
        variables, key = arguments
        keys = jnp.broadcast_to(key, (len(images),))
        return model.encoder.apply(variables, distort(keys, images.astype(jnp.float32) / 255), train=False)

    return embed_copy


@functools.lru_cache(maxsize=8)
def _programs(model):
    """The model's evaluation functions, the same objects for the same model, so that each is compiled once."""

    def embed(variables, images: chex.Array) -> chex.Array:
        return model.encoder.apply(variables, images.astype(jnp.float32) / 255, train=False)

    def pairs(arguments, numbers):
        params, embeddings = arguments
        return model.head.apply({"params": params}, embeddings[numbers[:, 0]], embeddings[numbers[:, 1]])

    def all_pairs(arguments, gallery):
        params, queries = arguments
        return model.head.apply({"params": params}, gallery, queries, method="all_pairs")

    def trials(arguments, numbers):
        params, embeddings = arguments

        def one_run(query, support):
            ways, shots = support.shape
            logits = model.head.apply(
                {"params": params}, embeddings[query], embeddings[support.ravel()], method="all_pairs"
            )
            return logits.reshape(len(query), ways, shots).mean(axis=2)

        return jax.lax.map(lambda numbers: one_run(*numbers), numbers)

    return {"embed": embed, "pairs": pairs, "all": all_pairs, "trials": trials}
