"""Checkpoints of a run: the latest, to resume from, and the best (or last, see `train.keep`), to evaluate."""

import contextlib
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from siamjax import parallel
from siamjax.training.state import State


class Checkpoints:
    """The checkpoints `latest` and `best` in a folder, written by Orbax in the background.

    A checkpoint contains the first replica of the state (`best` only what evaluation needs) and, as JSON, the progress
    of the loop. Orbax renames it into place once it is complete, so a killed run leaves the previous one. All replicas
    are equal: only the main process reads and writes, and it sends what it restores to the others.
    """

    def __init__(self, folder: pathlib.Path, read_only: bool = False):
        self._managers = {}
        if not parallel.is_main_process():
            return
        options = ocp.CheckpointManagerOptions(
            # Another process may be writing while this one reads. Orbax's own `read_only` prints a warning.
            max_to_keep=None if read_only else 1,
            cleanup_tmp_directories=not read_only,
            # With active_processes, Orbax does not wait for other processes, but requires create=False.
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
        )
        for which in ("latest", "best"):
            place = folder.resolve() / which
            if not read_only:
                place.mkdir(parents=True, exist_ok=True)
            self._managers[which] = ocp.CheckpointManager(
                place,
                options=options,
                item_handlers={"state": ocp.StandardCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()},
            )

    def save(self, which: str, state: State, progress: dict) -> None:
        """Starts writing replicated `state` as the `which` checkpoint; returns before it is on disk.

        Args:
          which: "latest" or "best".
          state: replicated.
          progress: of the loop.

        Raises:
          OSError: this checkpoint, or the previous one, cannot be written; complete ones are kept.
        """
        if not self._managers:
            return
        with self._writing():
            self._save(which, state, progress)

    def _save(self, which, state, progress):
        manager = self._managers[which]
        if which == "best":
            params, batch_stats = state.judged()
            params = {part: tree for part, tree in params.items() if part != "loss"}
            state = state.replace(params=params, batch_stats=batch_stats, opt_state=(), average=None)
        else:
            # The progress of `latest` names the best checkpoint, which must be complete first.
            self._managers["best"].wait_until_finished()
        host = parallel.first(state)
        step = int(host.step)
        manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(host), progress=ocp.args.JsonSave(progress))
        )

    def restore(self, which: str, like: State) -> tuple[State, dict] | None:
        """Reads the `which` checkpoint.

        Args:
          which: "latest" or "best".
          like: state with the expected structure and shapes.

        Returns:
          (state on the host, progress), or None if there is no checkpoint.

        Raises:
          ValueError: it is damaged, or of another encoder, head or optimizer.
        """
        return parallel.from_main(lambda: self._restore(which, like))

    def _restore(self, which, like):
        manager = self._managers[which]
        step = manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            tree = manager.item_metadata(step)["state"].tree
            differing, restored = difference(tree, like), None
            if not differing:
                # Fields that an older version did not save contain no arrays, as the shapes are equal.
                fields = {name: getattr(abstract, name) for name in tree}
                args = ocp.args.Composite(state=ocp.args.StandardRestore(fields), progress=ocp.args.JsonRestore())
                restored = manager.restore(step, args=args)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{manager.directory / str(step)} is damaged ({str(error)[:80]}...); delete this folder, and training "
                "resumes from the remaining checkpoint, or restarts"
            ) from error
        if restored is None:
            raise ValueError(
                f"{manager.directory}: the checkpoint does not fit the configured encoder, head or optimizer: "
                f"{differing}; use the configuration of its training"
            )
        return jax.device_get(like.replace(**restored.state)), restored.progress

    def forget_after(self, step: int) -> None:
        """Removes best checkpoints later than `step`, the latest one of a killed run: training repeats these steps."""
        if manager := self._managers.get("best"):
            for later in [saved for saved in manager.all_steps() if saved > step]:
                manager.delete(later)

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
