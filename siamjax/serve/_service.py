"""What a service does: requests in, answers out, by one worker."""

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from siamjax import files, parallel
from siamjax.decision import Decision
from siamjax.gallery import Gallery, Match, UnknownIdentity
from siamjax.network import Network, score_references
from siamjax.serve import _types as types
from siamjax.serve import _uploads as uploads
from siamjax.serve._histogram import histogram_of
from siamjax.serve._metrics import Metrics
from siamjax.serve._types import IMAGES, RANKED, Limits, Refusal
from siamjax.serve._worker import SIZES, Rows, Worker

_DECODED = 1 + IMAGES  # images of the largest request
_WARMED = sorted(SIZES, key=lambda size: (size != 8, size))  # first what the pages ask for


class Service:
    """A network, and perhaps a gallery, used by many requests at a time.

    Attributes:
      state: "warming up" until the programs are compiled, then "ok"; or "failed", as the log says.
    """

    def __init__(self, network: Network, gallery: Gallery | None, limits: Limits, metrics: Metrics):
        """Starts its threads; `close` ends them.

        Raises:
          ValueError: the network takes no images.
        """
        inputs = network.inputs
        if len(inputs.shape) != 3 or inputs.dtype != "uint8":
            raise ValueError(f"a service needs a network of images, this one takes {inputs}; use it from Python")
        self._network, self._gallery, self._limits, self.state = network, gallery, limits, "warming up"
        self._sides = (network, network) if network.towers == 1 else (network.tower(0), network.tower(1))
        try:
            self._decision = network.decision
        except ValueError:
            self._decision = None
        self._worker = Worker(metrics.batch)
        self._readers = concurrent.futures.ThreadPoolExecutor(os.cpu_count(), "siamjax-reader")
        self._histogram = histogram_of(network)
        self._worker.call(functools.partial(self._warm, _WARMED))

    def close(self) -> None:
        """Ends the threads, after what they are doing."""
        self._worker.close()
        self._readers.shutdown()

    def _warm(self, sizes):
        """Compiles for the first of the sizes; for the others after what has been asked meanwhile."""
        try:
            self._compile(sizes[0])
        except BaseException as error:
            logging.getLogger("siamjax.serve").error("a program could not be compiled", exc_info=error)
            self.state = "failed"
            return
        if len(sizes) == 1:
            self.state = "ok"
        else:
            self._worker.call(functools.partial(self._warm, sizes[1:]))

    def _compile(self, size):
        images = np.zeros((size, *self._network.inputs.shape), np.uint8)
        for side in dict.fromkeys(self._sides):
            embeddings = side.embed(images)
        if size == _WARMED[0]:
            self._scores(embeddings[:2])
        if size == _WARMED[-1] and self._compares_together():
            self._together(embeddings[:3])
        if self._gallery is not None and len(self._gallery) and self._decision is not None:
            self._gallery.identify(images, RANKED)

    def _compares_together(self):
        return self._decision is not None and self._decision.usual is not None and self._network.towers == 1

    async def about(self) -> types.About:
        """The network, and whether there is a gallery."""
        inputs, decision = self._network.inputs, self._decision
        return types.About(
            network=self._network.fingerprint,
            shape=list(inputs.shape),
            ink=inputs.shape[2] == 1 and (inputs.invert or inputs.ink),
            threshold=decision and decision.threshold,
            slope=decision and decision.slope,
            even=decision and decision.even,
            least=decision and decision.least,
            most=decision and decision.most,
            histogram=self._histogram,
            gallery=self._gallery is not None,
        )

    async def embed(self, request: types.ImagesRequest) -> types.Embeddings:
        """Embeds images."""
        if self._network.towers == 2:
            raise Refusal(409, "this network embeds each side of a pair in its own way; use /v1/verify")
        embeddings = await self._map(self._network.embed, await self._pixels(request.images))
        return types.Embeddings(
            embeddings=[embedding.tolist() for embedding in embeddings], network=self._network.fingerprint
        )

    async def verify(self, request: types.VerifyRequest) -> types.Verified:
        """Compares an image with each of the references: the same identity, or not?"""
        if self._decision is None:
            raise self._undecided()
        if request.together and not self._compares_together():
            reason = "it has two towers, or was evaluated by an older version"
            raise Refusal(409, f"this network does not compare with several references together: {reason}")
        pixels = await self._pixels([request.image, *request.references], ["image", *_names("references", request)])
        if self._sides[0] is self._sides[1]:
            embeddings = await self._map(self._network.embed, pixels)
        else:
            sides = zip(self._sides, (pixels[:1], pixels[1:]), strict=True)
            parts = await asyncio.gather(*(self._map(side.embed, images) for side, images in sides))
            embeddings = [embedding for part in parts for embedding in part]
        scores = await self._call(lambda: self._scores(np.stack(embeddings)))
        distances = np.linalg.norm(np.stack(embeddings[1:]) - embeddings[0], axis=1)
        answers, together = _answers(self._decision, scores, distances), None
        if request.together:
            score = await self._call(lambda: self._together(np.stack(embeddings)))
            (together,) = _answers(self._decision, score, distances.mean(keepdims=True))
        familiar = await self._familiar(self._decision, pixels)
        threshold = self._decision.threshold
        return types.Verified(answers=answers, together=together, threshold=threshold, familiar=familiar)

    async def identify(self, request: types.RankRequest) -> types.Identified:
        """Who is in each image? Ranked identities, or unknown."""
        gallery = self._filled()
        if self._decision is None:
            raise self._undecided()
        pixels = await self._pixels(request.images)
        found = await self._map(self._identify, pixels)
        answers = [
            types.Who(
                identity=each.identity,
                ranked=[_ranked(gallery, match) for match in each.ranked[: request.k]],
                familiar=familiar,
            )
            for each, familiar in zip(found, await self._familiar(self._decision, pixels), strict=True)
        ]
        return types.Identified(answers=answers)

    async def search(self, request: types.RankRequest) -> types.Searched:
        """The enrolled images that are most similar to each image."""
        gallery = self._filled()
        found = await self._map(self._search, await self._pixels(request.images))
        return types.Searched(matches=[[_ranked(gallery, match) for match in row[: request.k]] for row in found])

    async def enroll(self, request: types.EnrollRequest) -> types.Changed:
        """Adds images of an identity to the gallery: all of them, or on an error none."""
        gallery, name = self._needed(), _name(request.identity, "identity")
        contents = [uploads.content(text, f"images[{number}]") for number, text in enumerate(request.images)]
        await self._pixels(request.images)  # Refused by their names in the request, if they are to be.

        def add():
            with tempfile.TemporaryDirectory() as folder:
                paths = [pathlib.Path(folder, f"uploaded-{number}") for number in range(len(contents))]
                for path, content in zip(paths, contents, strict=True):
                    path.write_bytes(content)
                gallery.enroll(paths, [name] * len(paths))

        await self._call(add)
        return types.Changed(identity=name, images=len(contents))

    async def remove(self, identity: str) -> types.Changed:
        """Removes all images of an identity from the gallery."""
        gallery = self._needed()
        with _known():
            removed = await self._call(lambda: gallery.remove(identity))
        return types.Changed(identity=files.named(identity), images=removed)

    async def rename(self, request: types.RenameRequest) -> types.Changed:
        """Renames an identity; if another one has the new name, the two are merged."""
        gallery, to = self._needed(), _name(request.to, "to")
        if to == files.named(request.identity):
            raise Refusal(400, "to: expected another name than that of the identity")
        with _known():
            renamed = await self._call(lambda: gallery.rename(request.identity, to))
        return types.Changed(identity=renamed.identity, images=renamed.images)

    async def identities(self) -> types.Identities:
        """All identities of the gallery, by name."""
        gallery = self._needed()
        counts, thumbnails = await self._call(lambda: (found := gallery.identities(), gallery.thumbnails(found)))
        return types.Identities(
            identities=[
                types.Identity(identity=name, images=count, thumbnail=_address(thumbnails.get(name)))
                for name, count in counts.items()
            ]
        )

    async def thumbnail(self, name: str) -> bytes:
        """The JPEG file of a thumbnail."""
        folder = self._needed().folder / "thumbnails"
        if not (name.endswith(".jpg") and name[:-4].isalnum() and name.isascii() and (folder / name).is_file()):
            raise Refusal(404, "thumbnail: expected one that an answer of this service names")
        return (folder / name).read_bytes()

    async def inputs(self, request: types.ImagesRequest) -> types.Pictures:
        """Images as the network sees them."""
        return types.Pictures(images=[uploads.picture(image) for image in await self._pixels(request.images)])

    async def _familiar(self, decision: Decision, images: np.ndarray) -> list[bool]:
        loop = asyncio.get_running_loop()
        return (await self._within(loop.run_in_executor(self._readers, decision.knows, images))).tolist()

    def _identify(self, images: np.ndarray) -> Sequence[Any]:
        return self._needed().identify(images, RANKED)

    def _search(self, images: np.ndarray) -> Sequence[Any]:
        return self._needed().search(images, RANKED)

    def _scores(self, embeddings):
        """The scores [n − 1] of the first of embeddings [n, d] and each other one, by one program for any n."""
        pairs = np.stack([np.zeros(IMAGES, np.int32), np.arange(1, IMAGES + 1, dtype=np.int32)], axis=1)
        return self._network.score_pairs(parallel.padded(embeddings, _DECODED), pairs)[: len(embeddings) - 1]

    def _together(self, embeddings):
        """The score [1] of the first of embeddings [n, d] by all the other ones together, by one program for any n."""
        assert self._decision is not None
        numbers = np.arange(1, len(embeddings))
        return score_references(self, parallel.padded(embeddings, _DECODED), numbers[None], [0], self._decision)

    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """As of the network, by one program for all pairs that a request can have."""
        return self._network.score_pairs(embeddings, parallel.padded(pairs, _DECODED * IMAGES // 2))[: len(pairs)]

    def _needed(self) -> Gallery:
        if self._gallery is None:
            raise Refusal(409, "this service has no gallery; start it with --gallery FOLDER")
        return self._gallery

    def _filled(self):
        if not len(gallery := self._needed()):
            raise Refusal(409, "the gallery is empty; enroll something first")
        return gallery

    def _undecided(self):
        return Refusal(409, "this network has no threshold: it can embed and search, but not verify or identify")

    async def _pixels(self, texts, names: Sequence[str] = ()):
        names = names or [f"images[{number}]" for number in range(len(texts))]
        inputs, most, loop = self._network.inputs, self._limits.pixels, asyncio.get_running_loop()

        def read(text, name):
            return uploads.pixels(uploads.content(text, name), name, inputs, most)

        reading = [loop.run_in_executor(self._readers, read, *both) for both in zip(texts, names, strict=True)]
        return np.stack(await self._within(asyncio.gather(*reading)))

    async def _map(self, function: Rows, images: np.ndarray) -> Sequence[Any]:
        return await self._within(asyncio.wrap_future(self._worker.map(function, images)))

    async def _call(self, function: Callable[[], Any]) -> Any:
        """What has begun is waited for to its end, so that a change is never both refused and carried out."""
        future = self._worker.call(function)
        try:
            return await self._within(asyncio.shield(asyncio.wrap_future(future)))
        except Refusal:
            if future.cancel():
                raise
            return await asyncio.wrap_future(future)

    async def _within(self, answer):
        try:
            return await asyncio.wait_for(answer, self._limits.answer)
        except TimeoutError as error:
            reason = "the service is busy; try later"
            if self.state == "warming up":
                reason = "the service is still starting, and compiles its programs; try again once /health answers ok"
            raise Refusal(503, f"no answer within {self._limits.answer:g} s: {reason}") from error


def _answers(decision, scores, distances):
    columns = decision.same(scores), scores, decision.probability(scores), distances
    names = "same", "score", "probability", "distance"
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [types.PairAnswer(**dict(zip(names, row, strict=True))) for row in rows]


def _name(text, field):
    """The name of an identity, as a gallery stores it."""
    if not (name := files.named(text).strip()):
        raise Refusal(400, f"{field}: expected a name")
    return name


@contextlib.contextmanager
def _known():
    """Refuses a change of an identity that the gallery does not have."""
    try:
        yield
    except UnknownIdentity as error:
        raise Refusal(404, "identity: expected one that /v1/identities lists") from error


def _names(field, request):
    return [f"{field}[{number}]" for number in range(len(getattr(request, field)))]


def _ranked(gallery: Gallery, match: Match) -> types.Ranked:
    probability = None if math.isnan(match.probability) else match.probability
    # A match without a thumbnail has the folder of thumbnails instead.
    shown = match.thumbnail if match.thumbnail.parent != gallery.folder else None
    return types.Ranked(identity=match.identity, score=match.score, probability=probability, thumbnail=_address(shown))


def _address(thumbnail):
    return thumbnail and f"/v1/thumbnails/{thumbnail.name}"
