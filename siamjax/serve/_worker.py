"""The one thread that uses JAX; what waits for the same computation goes through it in one batch."""

import collections
import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from siamjax import parallel

# A program is compiled for each: one image for low latency, 8 and 32 for throughput. What waits is padded to the first
# size that has at least as many images as follow here: half of 32 is computed sooner than three times 8.
_LEAST = {32: 17, 8: 2, 1: 1}
SIZES = tuple(_LEAST)


Rows = Callable[[np.ndarray], Sequence[Any] | np.ndarray]  # images [n, ...] -> n results


@dataclasses.dataclass(frozen=True)
class _Job:
    """`function(images)`, images [n, ...]; or `function()` where `images` is None."""

    function: Callable[..., Any]
    images: Any
    future: concurrent.futures.Future


class Worker:
    """A thread that computes what it is given in order, except that equal functions of images are computed together."""

    def __init__(self, observe: Callable[[int], object]):
        """Starts the thread; `observe` is called with the number of images of each batch."""
        self._observe, self._waiting = observe, collections.deque[_Job]()
        self._changed, self._is_closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="siamjax-worker", daemon=True)
        self._thread.start()

    def map(self, function: Rows, images: np.ndarray) -> concurrent.futures.Future:
        """The n results of `function` for `images` [n, ...], which it gets in one call with those of other requests."""
        return self._add(function, images)

    def call(self, function: Callable[[], Any]) -> concurrent.futures.Future:
        """The result of `function`, which uses the network or the gallery."""
        return self._add(function, None)

    def close(self) -> None:
        """Ends the thread, after what waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _add(self, function, images):
        job = _Job(function, images, concurrent.futures.Future())
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the worker is closed")
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def _run(self):
        while jobs := self._next():
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            try:
                answers = self._answers(jobs) if jobs else []
            except BaseException as error:
                for job in jobs:
                    job.future.set_exception(error)
            else:
                for job, answer in zip(jobs, answers, strict=True):
                    job.future.set_result(answer)

    def _next(self) -> list[_Job]:
        """The jobs of the next batch; none when the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return []
            jobs = [self._waiting.popleft()]
            first = jobs[0]
            if first.images is None:
                return jobs
            count, others = len(first.images), collections.deque[_Job]()
            for job in self._waiting:
                size = 0 if job.images is None else len(job.images)
                if size and job.function == first.function and count + size <= max(SIZES):
                    jobs.append(job)
                    count += size
                else:
                    others.append(job)
            self._waiting = others
            return jobs

    def _answers(self, jobs: list[_Job]):
        first = jobs[0]
        if first.images is None:
            return [first.function()]
        images = np.concatenate([job.images for job in jobs])
        results = []
        for part, size in blocks(len(images)):
            block = images[part]
            results += list(first.function(parallel.padded(block, size)))[: len(block)]
            self._observe(len(block))
        ends = np.cumsum([len(job.images) for job in jobs])
        return [results[end - len(job.images) : end] for job, end in zip(jobs, ends, strict=True)]


def blocks(count: int) -> Iterator[tuple[slice, int]]:
    """Divides `count` images into parts, each with the one of `SIZES` that it is padded to."""
    start = 0
    while start < count:
        size = next(size for size, least in _LEAST.items() if count - start >= least)
        yield slice(start, min(start + size, count)), size
        start += size
