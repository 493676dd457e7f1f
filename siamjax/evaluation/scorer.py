"""Embeds images once, and scores them against one another in chunks on the devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from siamjax import parallel
from siamjax.evaluation.one_shot import Trials
from siamjax.progress import Progress
from siamjax.training.state import Model

_BLOCK = 4096  # pairs, or embeddings of a gallery and queries, that are scored at a time


class Scorer:
    """A trained model as two functions: images -> embeddings, and embeddings -> scores, higher for likelier the same.

    Running statistics are frozen: an image's embedding does not depend on the others.
    """

    def __init__(
        self, model: Model, params, batch_stats, chunk: int = 128, copies: int = 0, distort=None, image_shape=None
    ):
        """`params` and `batch_stats` as in `State`, on the host; `chunk` images are embedded at a time.

        With `copies`, an embedding is the mean of the image's own and of those of so many copies of it, distorted by
        `distort`, (keys [n], images float [n, h, w, c]) -> images, a long-lived function. All images get the same
        distortions; the mean of embeddings of length 1 is shorter. Images that are not of `image_shape` (h, w, c) are
        refused; None takes any.
        """
        self._head_params = params["head"]
        self._encoder_variables = {"params": params["encoder"], "batch_stats": batch_stats}
        self._chunk = chunk
        self._copies, self._image_shape = copies, image_shape
        self._programs = _programs(model)
        self._embed_copy = _copy_program(model, distort) if copies else None

    def embed(self, images: np.ndarray, description: str = "") -> np.ndarray:
        """uint8 [n, h, w, c] -> embeddings float32 [n, d]; with a `description`, behind a progress bar.

        Raises:
          ValueError: the images are not what the network takes.
        """
        if self._image_shape and (images.shape[1:] != self._image_shape or images.dtype != np.uint8):
            height, width, channels = self._image_shape
            raise ValueError(
                f"this network takes images uint8 [n, {height}, {width}, {channels}], found {images.dtype} "
                f"{list(images.shape)}; resize them first"
            )
        hidden = not (description and parallel.is_main_process())
        with Progress(description, (1 + self._copies) * len(images), hidden=hidden) as bar:
            embeddings = parallel.map_chunks(self._programs["embed"], self._encoder_variables, images, self._chunk, bar)
            for copy in range(self._copies):
                arguments = (self._encoder_variables, jax.random.key(copy))
                embeddings += parallel.map_chunks(self._embed_copy, arguments, images, self._chunk, bar)
        return embeddings / (1 + self._copies)

    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Embeddings [n, d] and pairs of their numbers int [p, 2], 0..n-1 -> logits of "same" float32 [p].

        Raises:
          ValueError: the pairs are of another shape, or name an embedding that is not there.
        """
        pairs = np.asarray(pairs)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"pairs: found shape {list(pairs.shape)}, expected [p, 2]: two image numbers per pair")
        pairs = _numbers(pairs, len(embeddings), "pairs")
        if not len(pairs):
            return np.zeros(0, np.float32)
        arguments = self._head_params, parallel.padded(embeddings)
        return parallel.map_chunks(self._programs["pairs"], arguments, pairs, _BLOCK)

    def score_all(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """Embeddings [q, d] and [n, d] -> logits of "same" float32 [q, n], a block of both at a time."""
        scores = np.empty((len(queries), len(gallery)), np.float32)
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            arguments = self._head_params, parallel.padded(block)
            of_block = parallel.map_chunks(self._programs["all"], arguments, gallery, _BLOCK)
            scores[start : start + _BLOCK] = of_block[:, : len(block)].T
        return scores

    def score_trials(self, embeddings: np.ndarray, trials: Trials) -> np.ndarray:
        """Scores float32 [r, q, ways] of each query with each identity: the mean logit of its shots.

        Raises:
          ValueError: the trials name an embedding that is not there.
        """
        _, ways, shots = trials.support.shape
        numbers = tuple(_numbers(getattr(trials, name), len(embeddings), name) for name in ("query", "support"))
        chunk = max(1, 2**25 // (trials.query.shape[1] * ways * shots * embeddings.shape[1]))
        arguments = self._head_params, parallel.padded(embeddings)
        return parallel.map_chunks(self._programs["trials"], arguments, numbers, chunk)


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

    def embed(variables, images):
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
