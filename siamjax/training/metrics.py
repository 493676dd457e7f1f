"""Logs the metrics of a run to metrics.csv and TensorBoard."""

import csv
import io
import pathlib
import time

from siamjax import extras, files, parallel

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

_REMEDY = "correct it, or move the file away: training resumes, and logs a new one"


class MetricsLog:
    """Appends metrics to the CSV file `path` and the folder `tensorboard`, resuming after step `after`.

    Rows after step `after`, which a killed run wrote after its last checkpoint, are removed. `seconds` is the total
    time of all training calls of a run, including compilation and validation. Only the main process writes. Raises
    ValueError if the file is damaged.
    """

    def __init__(self, path: pathlib.Path, tensorboard: pathlib.Path, after: int) -> None:
        with extras.needed_for("the log of a run"):
            import tensorboardX
        rows = parallel.from_main(lambda: _kept(path, after))
        self._writes = parallel.is_main_process()
        if not self._writes:
            return
        self._spent = rows[-1]["seconds"] if rows else 0.0
        self._start = time.monotonic()
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        files.write(path, text.getvalue().encode())
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
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


def _kept(path, after):
    """The rows up to step `after`; prints a line if some of them are missing."""
    rows = [row for row in read(path) if row["step"] <= after]
    if after and (not rows or rows[-1]["step"] != after):
        last = f"step {rows[-1]['step']}" if rows else "none"
        print(f"{path}: rows up to step {after} are missing; the last one is {last}", flush=True)
    return rows


def read(path: pathlib.Path) -> list[dict[str, float]]:
    """Reads the rows of a metrics.csv: column -> number, without empty values; [] if the file does not exist.

    A last line that is incomplete, as a killed or a running training leaves it, is left out.

    Raises:
      ValueError: the file is damaged; the message names the line.
    """
    try:
        lines = path.read_bytes().decode().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); {_REMEDY}") from error
    lines = lines[: len(lines) - (bool(lines) and not lines[-1].endswith("\n"))]
    rows = []
    for number, values in enumerate(csv.reader(lines), start=1):
        if number == 1:
            head = values
            if head[:1] != ["step"] or not set(head) <= {*COLUMNS} or len(set(head)) < len(head):
                raise ValueError(f"{path}, line 1: expected the columns {','.join(COLUMNS)}; {_REMEDY}")
            continue
        try:
            row = {name: float(value) for name, value in zip(head, values, strict=True) if value}
            row["step"] = int(values[0])
            if rows and row["step"] <= rows[-1]["step"]:
                raise ValueError(f"step {row['step']} after step {rows[-1]['step']}")
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is damaged ({error}); {_REMEDY}") from error
        rows.append(row)
    return rows
