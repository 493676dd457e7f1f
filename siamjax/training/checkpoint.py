"""Checkpoints of a run: the latest, to resume from, and the best (or the last, see `train.keep`), to evaluate."""

import contextlib
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from siamjax import parallel
from siamjax.training.state import State


class Checkpoints:
    """`latest` and `best` in a folder: each one Orbax checkpoint, written in the background.

    A checkpoint holds the first replica of the state (the best one only what is evaluated) and, as JSON, the loop's
    progress. Orbax renames it into place when it is complete, so a killed run leaves the previous one. All replicas are
    the same: only the main process reads and writes, and what it restores goes to the others.
    """

    def __init__(self, folder: pathlib.Path, read_only: bool = False):
        self._managers = {}
        if not parallel.is_main_process():
            return
        options = ocp.CheckpointManagerOptions(
            # Another process may be writing where this one only reads. Orbax's own `read_only` warns that it is.
            max_to_keep=None if read_only else 1,
            cleanup_tmp_directories=not read_only,
            # Orbax waits for no other process; in return, it makes no folder.
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

        Raises:
          OSError: this one, or the one before, cannot be written; those that are whole stay.
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
            # What `progress` says of the best checkpoint must hold once the latest is there.
            self._managers["best"].wait_until_finished()
        host = parallel.first(state)
        step = int(host.step)
        manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(host), progress=ocp.args.JsonSave(progress))
        )

    def restore(self, which: str, like: State) -> tuple[State, dict] | None:
        """The `which` checkpoint as (host state, progress), or None if there is none; `like` gives the structure."""
        return parallel.from_main(lambda: self._restore(which, like))

    def _restore(self, which, like):
        manager = self._managers[which]
        step = manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            tree = manager.item_metadata(step)["state"].tree
            saved, expected, restored = shapes(tree), shapes(like), None
            if saved == expected:
                # What older versions did not know of holds no arrays here, or the shapes would differ.
                known = {name: getattr(abstract, name) for name in tree}
                args = ocp.args.Composite(state=ocp.args.StandardRestore(known), progress=ocp.args.JsonRestore())
                restored = manager.restore(step, args=args)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{manager.directory / str(step)} is damaged ({str(error)[:80]}...); remove this folder: training then "
                "resumes from what is left, or starts again"
            ) from error
        if restored is None:
            name = next(name for name in sorted({**saved, **expected}) if saved.get(name) != expected.get(name))
            raise ValueError(
                f"{manager.directory}: the checkpoint does not fit the configured encoder, head or optimizer: {name} "
                f"is {saved.get(name, 'absent')} there and {expected.get(name, 'absent')} as configured; use the "
                "configuration that it was trained with"
            )
        return jax.device_get(like.replace(**restored.state)), restored.progress

    def forget_after(self, step: int) -> None:
        """Removes best checkpoints that a killed run made after its latest one: training comes by there again."""
        if manager := self._managers.get("best"):
            for later in [saved for saved in manager.all_steps() if saved > step]:
                manager.delete(later)

    def close(self) -> None:
        """Waits until everything is on disk; raises as `save` does."""
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
                raise  # Orbax tells of a full disk so, among other things.
            reason = "No space left on device" if full else reason[:200]
            raise OSError(
                f"checkpoints cannot be written in {folder} ({reason}): free the folder; the same command resumes "
                "from the latest complete one"
            ) from error


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a tree, by its path such as "params.head.scale"."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}
