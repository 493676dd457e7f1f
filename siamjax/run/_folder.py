"""The folder of a run: its file names and their content."""

import contextlib
import dataclasses
import datetime
import functools
import itertools
import json
import os
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import filelock
import jax
import optax
from ml_collections import ConfigDict

from siamjax import __version__, files, parallel
from siamjax.data import SOURCES, Dataset
from siamjax.decision import Decision
from siamjax.run import _sealed, settings
from siamjax.run._sealed import Json
from siamjax.training.state import Model, State, create
from siamjax.training.types import Paths

_ROW = {"accuracy", "ci95", "trials", "seed"}  # of results.json
_FOLD = ("data.folder.fold", "data.folder.folds", "data.folder.seed", "data.folder.by")
# The settings that figures depend on, apart from the weights.
_JUDGED = ("data.", "augment.", "encoder.", "head.", "evaluation.")


@dataclasses.dataclass(frozen=True)
class Figures:
    """The results of one evaluation, in the run folder itself or in a folder in its `evaluations/`."""

    folder: pathlib.Path

    @property
    def report(self) -> pathlib.Path:
        """The folder of the pictures."""
        return self.folder / "report"

    @property
    def config(self) -> Json:
        """The evaluated configuration; {} if there is none."""
        return self._read("results_config.json")

    @property
    def results(self) -> Json:
        """Protocol -> accuracy, interval, trials and seed; {} before an evaluation."""
        results = self._read("results.json")
        if not all(isinstance(row, dict) and row.keys() >= _ROW for row in results.values()):
            raise ValueError(
                f"{self.folder / 'results.json'} is damaged (expected {', '.join(sorted(_ROW))}); {self._again}"
            )
        return results

    @property
    def verification(self) -> Json:
        """Decisions, and figures of pairs, retrieval and open-set identification; {} before an evaluation."""
        return self._read("verification.json")

    @property
    def _again(self):
        run = self.folder.parent.parent if self.folder.parent.name == "evaluations" else self.folder
        return f"evaluate the run again: siamjax evaluate {run}"

    def _read(self, name):
        return _sealed.read(self.folder / name, self._again)

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        """The files of the figures, in the order in which they are written."""
        names = ("results_config.json", "results.json", "verification.json")
        return tuple(self.folder / name for name in names)

    def write(self, config: ConfigDict, results: Json) -> None:
        """Stores accuracies and the configuration that they belong to; `write_verification` must follow."""
        _sealed.write(self.folder / "results_config.json", json.loads(config.to_json()))
        _sealed.write(self.folder / "results.json", results)

    def write_verification(self, verification: Json) -> None:
        """Stores the last file of an evaluation, which marks it as complete."""
        _sealed.write_sealed(self.folder / "verification.json", verification)

    def are_of(self, step: int) -> bool:
        """Whether the evaluation is complete and of the checkpoint at `step`."""
        return self.verification.get("step") == step

    def decisions(self, own_copies: int, step: int) -> dict[int, Decision]:
        """The decisions that were fitted to the scores of the checkpoint at `step`, by number of copies.

        {} if another checkpoint was evaluated, because training went on. `own_copies` is the number in the run's
        configuration.

        Raises:
          ValueError: the file is damaged.
        """
        saved = self.verification
        if saved.get("step", step) != step:
            return {}
        try:
            fitted = {0: saved.get("decision_without_copies"), own_copies: saved.get("decision")}
            return {copies: Decision.read(decision) for copies, decision in fitted.items() if decision}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            path = self.folder / "verification.json"
            raise ValueError(f"{path} is damaged, or of another version ({error}); {self._again}") from error


class Run:
    """The folder of a training (the workdir).

    Attributes:
      folder: its path.
      checkpoints: folder of the checkpoints.
      metrics: the file metrics.csv.
      tensorboard: folder of the TensorBoard logs.
      figures: the evaluation with the run's own settings.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = pathlib.Path(folder).expanduser()
        self.checkpoints, self.tensorboard = self.folder / "checkpoints", self.folder / "tensorboard"
        self.metrics = self.folder / "metrics.csv"
        self.figures = Figures(self.folder)
        self._config, self._identities = self.folder / "config.json", self.folder / "identities.json"
        self._started = self.folder / "started.json"

    @property
    def paths(self) -> Paths:
        """Where its training keeps its files."""
        return Paths(self.checkpoints, self.metrics, self.tensorboard)

    @property
    def is_started(self) -> bool:
        """Whether a training has stored its configuration in the folder."""
        return self._config.is_file()

    @property
    def has_checkpoint(self) -> bool:
        """Whether the folder has a complete checkpoint."""
        return any(path.name.isdigit() for path in self.checkpoints.glob("*/*"))

    @functools.cached_property
    def saved(self) -> Json:
        """The configuration as saved, without settings that are newer than the run.

        Raises:
          FileNotFoundError: there is no saved configuration.
          ValueError: the file is damaged.
        """
        if not self.is_started:
            raise FileNotFoundError(f"{self._config} not found; pass the folder of a run (workdir of the training)")
        return _sealed.read(self._config, "restore it from a copy, or use another workdir")

    @functools.cached_property
    def settings(self) -> ConfigDict:
        """The saved configuration; settings that are newer than the run have their defaults.

        Raises:
          FileNotFoundError: there is no saved configuration.
          ValueError: it is damaged, or of a newer version.
        """
        saved = self.saved
        try:
            return settings.read(saved)
        except ValueError as error:
            raise ValueError(f"{self._config}: {error}") from error

    def check_writable(self) -> None:
        """Raises ValueError if no file can be written in the folder."""
        if reason := files.obstacle(self.folder):
            raise ValueError(f"workdir={self.folder}: {reason}; choose another folder")

    def check_resumable(self, config: ConfigDict) -> None:
        """Refuses a folder that is not writable, or that contains a run with other settings.

        Raises:
          ValueError: the message names the settings that differ, and the remedy.
        """
        self.check_writable()
        if not self.is_started:
            return self._check_new()
        source = SOURCES[self.settings.data.name]
        # Streaming gives the same numbers.
        ignored = ("data.stream", *source.places)
        changed = [
            change
            for change in settings.changes(self.settings, config)
            # The form of inputs is empty before the data is read, and in older runs.
            if change.key not in ignored and (change.key not in source.form or (change.before and change.after))
        ]
        if changed:
            values = "; ".join(f"{change.key} was {change.before}, now {change.after}" for change in changed)
            # Those of another fold have seen its test data.
            other = {change.key for change in changed} & {"data.protocol", *_FOLD}
            start = "" if other else f", and start from these weights with --config.train.start={self.folder}"
            raise ValueError(
                f"{self._config} has other settings: {values}. Resume with the same values; to evaluate with "
                f"others: siamjax evaluate {self.folder}; to train with others, use a new workdir{start}"
            )

    def _check_new(self):
        """Refuses a folder that holds files of a run, or files that a run would replace, without a configuration."""
        ours = (self.checkpoints, self.metrics, self._identities, *self.figures.files)
        found = next((path for path in ours if path.exists() or path.is_symlink()), None)
        if found is not None:
            raise ValueError(
                f"{found} exists, but {self._config} does not: restore that file from a copy if this is a run's folder "
                "(after an evaluation, results_config.json is one); otherwise use a new workdir"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other trainings out of the folder, which is created if needed; the lock of a killed one is released.

        Raises:
          ValueError: another process trains in this folder.
        """
        lock = filelock.FileLock(self.folder / ".lock", timeout=0)

        def acquire():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except filelock.Timeout as error:
                raise ValueError(
                    f"workdir={self.folder}: another training runs in this folder; wait for its end, or choose another"
                ) from error

        parallel.from_main(acquire)
        try:
            yield
        finally:
            lock.release()

    @property
    def identities(self) -> dict[str, list[str]]:
        """The names of the identities in each part of the data; {} if they have none.

        Raises:
          ValueError: the file is damaged.
        """
        remedy = "restore it from a copy, or delete it if no identity was added to the data or removed"
        names = _sealed.read(self._identities, remedy)
        if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in names.values()):
            raise ValueError(f"{self._identities} is damaged (expected lists of names); {remedy}")
        return names

    @property
    def trained_on(self) -> set[str]:
        """The names of all identities that the network has learned from, also before this run; {} if they have none."""
        return {files.named(name) for part in ("train", "before") for name in self.identities.get(part, ())}

    def check_identities(self, datasets: Mapping[str, Dataset]) -> None:
        """Refuses validation or test data with identities that were trained on.

        Raises:
          ValueError: the message names the first such identity.
        """
        check_unseen(
            self.trained_on,
            datasets,
            f"{self._identities}: ",
            "identities were added or removed since, which changed the split, or other ones were chosen "
            "(data.protocol, data.folder.fold). Restore the data, or use a new workdir; other identities that only "
            "have the same names need other names",
        )

    @property
    def started(self) -> Json:
        """How the training began: "command", "at" (UTC), "version", "sizes"; {} in older runs."""
        return _sealed.read(self._started, "delete it; it is only shown in reports")

    def start(
        self, config: ConfigDict, datasets: Mapping[str, Dataset], command: str = "", before: Collection[str] = ()
    ) -> None:
        """Stores the configuration and the names of the identities in each part of the data; at first, the command.

        `before` names those that the weights, or the teacher, have learned from already.
        """
        _sealed.write_sealed(self._config, json.loads(config.to_json()))
        names = {part: sorted(dataset.names) for part, dataset in datasets.items() if dataset.names}
        if before := {*before, *self.identities.get("before", ())}:
            names["before"] = sorted(before)
        if names:
            _sealed.write_sealed(self._identities, names)
        if not self.has_checkpoint and not self._started.is_file():
            sizes = {part: [len(dataset), len(set(dataset.label.tolist()))] for part, dataset in datasets.items()}
            at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            _sealed.write_sealed(self._started, {"command": command, "at": at, "version": __version__, "sizes": sizes})

    def check_trained(self) -> None:
        """Raises FileNotFoundError if the run has no folder of checkpoints."""
        if not self.checkpoints.is_dir():
            raise FileNotFoundError(f"{self.folder} has no checkpoint; train first, or pass another workdir")

    def restore(self, model: Model, shape: tuple[int, ...]) -> tuple[State, Json]:
        """Reads the checkpoint to evaluate: the best or the last, see `train.keep`.

        Args:
          model: encoder and head of the run.
          shape: of an input, such as (h, w, c).

        Returns:
          The state on the host, and the progress of the training.

        Raises:
          FileNotFoundError: there is no checkpoint.
          ValueError: it is of another model, or damaged.
        """
        from siamjax.training.checkpoint import Checkpoints  # Orbax takes a fifth of a second to import.

        parallel.from_main(self.check_trained)
        like = jax.eval_shape(lambda: create(model, jax.random.key(0), shape, optax.identity()))
        checkpoints = Checkpoints(self.checkpoints, read_only=True)
        restored = checkpoints.restore("best", like.replace(opt_state=()))
        checkpoints.close()
        if restored is None:
            raise FileNotFoundError(
                f"{self.folder} has no checkpoint yet; resume training: siamjax train {self.folder}"
            )
        return restored

    def figures_of(self, config: ConfigDict) -> Figures:
        """Where figures of `config` are stored: the run folder, or a folder named after the settings that differ."""
        differing = self.differences(config)
        if not differing:
            return self.figures
        source = SOURCES[config.data.name]
        # The data comes first in the name.
        parts = {"": source.title(config.data).partition(" (")[0]} if _of_data(differing) else {}
        parts |= {key: f"{key}={value}" for key, value in differing.items() if not _of_data([key])}
        name = re.sub(r"[^\w.,=+-]", "_", ",".join(parts.values()))[:100]
        for number in itertools.count(1):
            figures = Figures(self.folder / "evaluations" / (name if number == 1 else f"{name}-{number}"))
            if not figures.config or not _differing(settings.read(figures.config), config):
                return figures
        raise AssertionError("unreachable")

    def differences(self, config: ConfigDict) -> Json:
        """The settings of `config` that affect figures and differ from the run's: key -> value in `config`."""
        return _differing(self.settings, config)

    def title(self, config: ConfigDict, progress: Mapping[str, Any]) -> str:
        """The title of a table: run, step, which checkpoint that is, and data; `progress` as `restore` returns it."""
        judged = progress["best_accuracy"] >= 0  # Otherwise there was no validation, and the last state is kept.
        which = self.settings.train.keep if judged else "last"
        return f"{self.folder}: step {progress['best_step']}, the {which} checkpoint, on {_data(config)}"

    def about(self, config: ConfigDict, part: str, step: int | None = None) -> str:
        """The title of a picture: run, step, and which part of which data."""
        at = "" if step is None else f", step {step}"
        return f"run {self.folder.absolute().name}{at}; {part} data of {_data(config)}"


def check_unseen(trained: set[str], datasets: Mapping[str, Dataset], start: str, reason: str) -> None:
    """Refuses validation or test data with identities in `trained`; the message has these texts around the first."""
    for part in datasets.keys() & {"validation", "test"}:
        if seen := sorted(trained & set(datasets[part].names)):
            raise ValueError(
                f"{start}{len(seen)} identities of the {part} data were trained on ({seen[0]!r} first): {reason}; a "
                "network is judged on identities that it has not seen"
            )


def _data(config):
    return SOURCES[config.data.name].title(config.data)


def _of_data(keys):
    return {"data.name", "data.folder.path"} & set(keys)


def _differing(before, config):
    """{key: value in `config`} of settings that affect figures and differ."""
    old, new = (_judged(each) for each in (before, config))
    return {key: new.get(key) for key in sorted({**old, **new}) if old.get(key) != new.get(key)}


def _judged(config):
    """Key -> value of the settings that affect figures; the path of the data is absolute."""
    source = SOURCES[config.data.name]
    places = {"data.stream", *source.places, *source.form}  # Data of another form is not evaluated at all.
    values = settings.flat(json.loads(config.to_json()))
    kept = {key: value for key, value in values.items() if key.startswith(_JUDGED) and key not in places}
    return kept | {"data.folder.path": source.path(config.data)}
