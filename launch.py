"""Trains a siamese network, or evaluates a trained one.

python launch.py                                            train the quickstart, then evaluate it
python launch.py --config configs/koch_omniglot.py          train another configuration, then evaluate it
python launch.py --mode evaluate --workdir runs/quickstart  evaluate a run again
python launch.py --coordinator HOST:PORT --processes 2 --process 0    one of two processes of a training
srun python launch.py --coordinator auto                    the same on SLURM, a TPU pod or Open MPI

--config.KEY=VALUE changes a setting; siamjax/run/settings.py lists all settings with their meaning. A run folder stores
its configuration: training it again resumes it, and evaluating it needs no --config.
"""

import argparse
import os
import pathlib
import signal
import sys
import traceback

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from siamjax import host

CONFIGS = pathlib.Path(__file__).resolve().parent / "configs"

MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "train (and then evaluate), or evaluate only")
WORKDIR = flags.DEFINE_string("workdir", None, "run folder; default: runs/NAME for configs/NAME.py")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 if there are several; auto on a cluster")
PROCESSES = flags.DEFINE_integer("processes", None, "number of processes of the training", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "the number of this process, from 0", lower_bound=0)
JOIN_TIMEOUT = flags.DEFINE_integer("join-timeout", 60, "seconds to wait for the other processes", lower_bound=1)
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "configuration file; default: that of the run folder, or configs/quickstart.py"
)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; --config defaults to the configuration of the run folder, or to the quickstart."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--config", nargs="?")
    peek.add_argument("--workdir", nargs="?")
    given, _ = peek.parse_known_args(argv[1:])
    workdir = given.workdir or str(pathlib.Path("runs") / pathlib.Path(given.config or "quickstart").stem)
    if given.config and not pathlib.Path(given.config.partition(":")[0]).is_file():
        shipped = ", ".join(f"configs/{path.name}" for path in sorted(CONFIGS.glob("*.py")) if path.stem != "saved")
        sys.exit(f"launch.py: --config {given.config} not found; choose one of {shipped}, or a file of your own")
    if not any(argument.partition("=")[0] == "--config" for argument in argv):
        from siamjax.run import Run  # Imports JAX, which takes a second; not needed if --config is given.

        file = f"{CONFIGS / 'saved.py'}:{workdir}" if Run(workdir).is_started else str(CONFIGS / "quickstart.py")
        argv = [argv[0], f"--config={file}", *argv[1:]]
    try:
        rest = flags.FLAGS(argv)
        flags.FLAGS.workdir = WORKDIR.value or workdir
        if not isinstance(CONFIG.value, ConfigDict):
            raise TypeError("get_config() of the file given as --config must return a ConfigDict")
    except Exception as error:  # Whatever a configuration file raises.
        settings = [argument for argument in argv if argument.startswith("--config.")]
        if given.config:
            settings.insert(0, f"--config={given.config}")
        about = f"given: {' '.join(settings)}; " if settings else ""
        kind = "" if isinstance(error, (flags.Error, ValueError, OSError)) else f"{type(error).__name__}: "
        sys.exit(f"launch.py: {kind}{_line(error)} ({about}python launch.py --help explains)")
    if rest[1:]:
        sys.exit(f"launch.py: unexpected argument {rest[1]!r}; a setting is given as --config.KEY=VALUE")
    return rest


def main(_: object) -> None:
    if int(flags.FLAGS["verbosity"].value or 0) < 1:
        logging.set_verbosity(logging.ERROR)
    if PROCESS.value in (None, 0) and COORDINATOR.value != "auto":
        print(f"{MODE.value} {WORKDIR.value}: loading JAX, then the data", flush=True)
    # Slow imports come after the flags, so that a misspelt flag is reported at once.
    from siamjax import parallel
    from siamjax.evaluate import evaluate
    from siamjax.train import train

    run = {"train": train, "evaluate": evaluate}[MODE.value]
    place = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
    try:
        if place != (None, None, None):
            parallel.start(*place, join_timeout=JOIN_TIMEOUT.value)
        run(CONFIG.value, pathlib.Path(str(WORKDIR.value)))
    except Exception as error:
        expected = isinstance(error, (ValueError, OSError, FloatingPointError, parallel.DeviceError))
        if flags.FLAGS.verbosity > 0 or not expected:
            traceback.print_exc()
        _leave(1, _line(parallel.explain(error)))


def _interrupted(*_):
    """Leaves at once: an exception raised in a function that JAX calls from C++ would be printed there and lost."""
    shown = "\n\x1b[?25h" if sys.stderr.isatty() else ""  # The terminal has printed ^C, and the bar hides the cursor.
    os.write(2, f"{shown}launch.py: interrupted; the same command resumes from the latest checkpoint\n".encode())
    os._exit(130)


def _leave(code, message):
    """Ends the process without cleanup: a normal exit would wait for other processes, and XLA's threads would crash."""
    sys.stdout.flush()
    print(f"launch.py: {message}", file=sys.stderr, flush=True)
    os._exit(code)


def _line(error):
    """The message of an error on one line, without the quotes that KeyError adds."""
    text = " ".join(str(error).replace("\\n", " ").replace("\\'", "'").split())
    return text[1:-1] if text[:1] == text[-1:] and text[:1] in ("'", '"') else text


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _interrupted)
    host.tune()
    app.run(main, flags_parser=parse)
