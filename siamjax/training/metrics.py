"""Logs the metrics of a run to metrics.csv and TensorBoard."""

import csv
import os
import pathlib
import time

import tensorboardX

from siamjax import parallel

COLUMNS: tuple[str, ...] = (
    "step",
    "seconds",
    "loss",
    "pair_accuracy",
    "active_share",
    "gradient_norm",
    "images_per_second",
    "validation_one_shot",
)


class MetricsLog:
    """Appends metrics to the CSV file `path` and the folder `tensorboard`, resuming after step `after`.

    Rows after step `after`, which a killed run wrote after its last checkpoint, are removed. `seconds` is the total
    time of all training calls of a run, including compilation and validation. Only the main process writes.
    """

    def __init__(self, path: pathlib.Path, tensorboard: pathlib.Path, after: int) -> None:
        self._writes = parallel.is_main_process()
        if not self._writes:
            return
        rows = [row for row in read(path) if row["step"] <= after]
        self._spent = rows[-1]["seconds"] if rows else 0.0
        self._start = time.monotonic()
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, path)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._board = tensorboardX.SummaryWriter(str(tensorboard), purge_step=after + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes the metrics of one step; the keys of `values` are in `COLUMNS`."""
        if not self._writes:
            return
        self._writer.writerow(
            {"step": step, "seconds": round(self._spent + time.monotonic() - self._start, 2), **values}
        )
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        if self._writes:
            self._file.close()
            self._board.close()


def read(path: pathlib.Path) -> list[dict[str, float]]:
    """Reads the rows of a metrics.csv: column -> number, without empty values; [] if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [{**row, "step": int(row["step"])} for row in rows]
