"""Checkpoints of a run: the latest, to resume from, and the best (or last, see `train.keep`), to evaluate."""

import contextlib
import gc
import json
import logging
import os
import pathlib
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from siamjax import digests, extras, parallel
from siamjax.training.state import State

with extras.needed_for("a checkpoint"):
    import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints `latest` and `best` in a folder, the last two of each, written by Orbax in the background.

    A checkpoint contains the first replica of the state (`best` only what evaluation needs) and, as JSON, the progress
    of the loop and a digest of both, which is compared on reading. Orbax renames it into place once it is complete, and
    deletes the oldest one only then, so a killed run leaves the previous ones. All replicas are equal: only the main
    process reads and writes, and it sends what it restores to the others.
    """

    def __init__(self, folder: pathlib.Path, read_only: bool = False):
        self._folder, self._managers = folder.resolve(), {}
        if not parallel.is_main_process():
            return
        options = ocp.CheckpointManagerOptions(
            # Another process may be writing while this one reads. Orbax's own `read_only` prints a warning.
            max_to_keep=None if read_only else 2,
            cleanup_tmp_directories=not read_only,
            # With active_processes, Orbax does not wait for other processes, but requires create=False.
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
        )
        for which in ("latest", "best"):
            place = self._folder / which
            if not read_only:
                place.mkdir(parents=True, exist_ok=True)
            handlers = {"state": ocp.StandardCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()}
            with _quiet():
                self._managers[which] = ocp.CheckpointManager(place, options=options, item_handlers=handlers)

    def save(self, which: str, state: State, progress: dict) -> None:
        """Starts writing replicated `state` as the `which` checkpoint; returns before it is on disk.

        Args:
          which: "latest" or "best". Save `latest` first: `best` can be made from it, but not the reverse.
          state: replicated.
          progress: of the loop.

        Raises:
          OSError: this checkpoint, or the previous one, cannot be written; complete ones are kept.
        """
        if not self._managers:
            return
        with self._writing():
            # Progress names the best checkpoint: each is complete before the next one begins.
            self._managers["latest" if which == "best" else "best"].wait_until_finished()
            host = parallel.first(state.evaluated() if which == "best" else state)
            saved = {"progress": progress, "digest": _digest(host, progress)}
            args = ocp.args.Composite(state=ocp.args.StandardSave(host), progress=ocp.args.JsonSave(saved))
            self._managers[which].save(int(host.step), args=args)

    def restore(self, which: str, like: State) -> tuple[State, dict] | None:
        """Reads the newest `which` checkpoint.

        Args:
          which: "latest" or "best".
          like: state with the expected structure and shapes.

        Returns:
          (state on the host, progress), or None if there is no checkpoint.

        Raises:
          ValueError: it is damaged, or of another encoder, head or optimizer.
        """

        def newest():
            return next((self._read(which, step, like) for step in self._steps(which)), None)

        return _from_main(newest, like)

    def resume(self, start: State, tell: Callable[[str], None]) -> tuple[State, dict] | None:
        """Reads what training resumes from: the newest `latest` that is whole; without any, the newest `best`.

        A `best` has no optimizer state: momentum is lost. Damaged checkpoints are moved to the folder `damaged`, and
        every `best` after the resumed step is removed: training repeats these steps.

        Args:
          start: the initial state.
          tell: called with a line about each damaged checkpoint.

        Returns:
          (state on the host, progress), or None if there is no checkpoint. If no `best` is whole, the `best_step` of
          the progress is 0.

        Raises:
          ValueError: all checkpoints are damaged, or of another encoder, head or optimizer.
        """
        return _from_main(lambda: self._resume(start, tell), start)

    def _resume(self, start, tell):
        latest, damaged = self._newest_whole("latest", start)
        if latest is not None:
            for later in [step for step in self._steps("best") if step > int(latest[0].step)]:
                self._managers["best"].delete(later)
        best, others = self._newest_whole("best", start.evaluated())
        damaged |= others
        if damaged and latest is best is None:
            first = next(iter(damaged.values()))
            raise ValueError(f"{first}; no other checkpoint can be read: restore a copy, or train in a new workdir")
        for (which, step), error in damaged.items():
            tell(f"{error}: moved to {self._set_aside(which, step)}")
        if latest is not None:
            if damaged:
                tell(f"resuming from latest/{int(latest[0].step)}")
            return latest[0], latest[1] | _best_left(latest, best)
        if best is None:
            return None
        place, (state, progress) = self._folder / "latest", best
        tell(f"{place} is lost: resuming from best/{int(state.step)}, without the optimizer's state")
        return start.resumed(state), progress

    def _newest_whole(self, which, like):
        """(state, progress) of the newest `which` that can be read, or None; and the errors of later ones."""
        errors = {}
        for step in self._steps(which):
            try:
                return self._read(which, step, like), errors
            except ValueError as error:
                errors[which, step] = error
        return None, errors

    def _steps(self, which):
        """The steps of the `which` checkpoints, newest first."""
        return sorted(self._managers[which].all_steps(), reverse=True)

    def _set_aside(self, which, step):
        """Moves a damaged checkpoint out of Orbax's way; returns its new place."""
        place = self._folder / "damaged" / f"{which}-{step}"
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(exist_ok=True)
        os.rename(self._folder / which / str(step), place)
        self._managers[which].reload()
        return place

    def _read(self, which, step, like):
        """(state on the host, progress) at `step`; raises ValueError if it is damaged or does not fit `like`."""
        manager = self._managers[which]
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            with _quiet():
                tree = manager.item_metadata(step)["state"].tree
                differing = difference(tree, like)
                if not differing:
                    # Fields that an older version did not save contain no arrays, as the shapes are equal.
                    fields = {name: getattr(abstract, name) for name in tree}
                    args = ocp.args.Composite(state=ocp.args.StandardRestore(fields), progress=ocp.args.JsonRestore())
                    restored = manager.restore(step, args=args)
                    state = jax.device_get(like.replace(**restored.state))
                    return state, _checked(state, restored.progress)
        except PermissionError:
            raise
        except Exception as error:  # Whatever the parsers of a damaged file raise.
            raise ValueError(f"{self._folder / which / str(step)} is damaged ({_short(error)})") from error
        raise ValueError(
            f"{self._folder / which}: the checkpoint does not fit the configured encoder, head or optimizer: "
            f"{differing}; use the configuration of its training"
        )

    def close(self) -> None:
        """Waits until all checkpoints are on disk; raises as `save` does."""
        with self._writing():
            for manager in self._managers.values():
                manager.close()

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except (ValueError, OSError) as error:
            folder, reason = self._managers["latest"].directory.parent, str(error)
            full = "No space left" in reason
            if isinstance(error, ValueError) and not full:
                raise  # Orbax reports a full disk as a ValueError, like many other errors.
            reason = "No space left on device" if full else reason[:200]
            raise OSError(
                f"checkpoints cannot be written in {folder} ({reason}): free the disk and run the same command again; "
                "it resumes from the last complete checkpoint"
            ) from error


def _from_main(read, like) -> Any:
    """What `read()` returns on the main process, (state structured as `like`, progress) or None, on all of them."""

    def packed():
        found = read()
        return found and {"arrays": jax.tree.leaves(found[0]), "progress": found[1]}

    found = parallel.from_main(packed)
    return found and (jax.tree.unflatten(jax.tree.structure(like), found["arrays"]), found["progress"])


def _best_left(latest, best):
    """Accuracy and step of the newest `best` that can be read; the step is 0 if `latest` must become the best."""
    step = int(latest[0].step)
    if best is None or int(best[0].step) != step == latest[1]["best_step"]:
        return {"best_accuracy": -1.0, "best_step": 0}
    return {"best_accuracy": best[1]["best_accuracy"], "best_step": best[1]["best_step"]}


def _digest(state, progress):
    """Of all arrays of a state on the host, and of the progress."""
    return digests.of([json.dumps(progress, sort_keys=True), *map(np.asarray, jax.tree.leaves(state))])


def _checked(state, saved):
    """The progress in what a checkpoint saved besides the state; raises ValueError unless the digest is of both."""
    if saved.keys() <= {"best_accuracy", "best_step", "without_gain"}:
        return saved  # Of an older version, without a digest.
    if saved.keys() != {"progress", "digest"} or saved["digest"] != _digest(state, saved["progress"]):
        raise ValueError("its content differs from its digest")
    return saved["progress"]


@contextlib.contextmanager
def _quiet():
    """Discards what Orbax logs of a damaged checkpoint, and TensorStore's threads after it: the error is raised."""
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook = sys.unraisablehook = lambda *_: None
    logging.disable(logging.ERROR)
    try:
        yield
    except Exception as error:
        with warnings.catch_warnings(action="ignore"):  # Coroutines that it has not awaited.
            traceback.clear_frames(error.__traceback__)
            gc.collect()
        time.sleep(0.05)  # Threads that still read report to an event loop that is closed.
        raise
    finally:
        logging.disable(logging.NOTSET)
        sys.excepthook, sys.unraisablehook = hooks


def _short(error):
    """The beginning of an error's message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 80 else f"{text[:80]}..."


def _shapes(tree):
    """The shape of each array of a tree, by its path, such as "params.head.scale"."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}


def difference(saved: Any, configured: Any) -> str:
    """Describes the first array whose shape differs between two trees; "" if there is none."""
    saved, expected = _shapes(saved), _shapes(configured)
    for path in sorted({**saved, **expected}):
        if saved.get(path) != expected.get(path):
            return f"{path} is {saved.get(path, 'absent')} there and {expected.get(path, 'absent')} as configured"
    return ""
