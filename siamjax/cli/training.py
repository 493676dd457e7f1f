"""The commands `train` and `evaluate`, and launch.py: flags, a configuration, and the start on several hosts."""

import argparse
import functools
import os
import pathlib
import shlex
import signal
import sys
import traceback
import types
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from siamjax import files
from siamjax.cli import configs, overrides

_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "train (and then evaluate), or evaluate only")
_WORKDIR = flags.DEFINE_string("workdir", None, "run folder; default: runs/NAME for configs/NAME.py")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0 if there are several; auto on a cluster"
)
_PROCESSES = flags.DEFINE_integer("processes", None, "number of processes of the training", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", None, "the number of this process, from 0", lower_bound=0)
_JOIN_TIMEOUT = flags.DEFINE_integer("join-timeout", 60, "seconds to wait for the other processes", lower_bound=1)
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "configuration: a name, or a file; default: that of the run folder, or quickstart"
)

_ABOUT = """siamjax train CONFIG                 train a configuration, then evaluate it
siamjax train RUN                    resume a training, in its run folder
siamjax evaluate RUN                 evaluate a run again
siamjax evaluate CONFIG              the same, for the run in runs/CONFIG

CONFIG is a name that `siamjax configs` lists, or a file of your own with a function get_config(); in it,
`from configs import NAME` imports a listed one. Flags come after CONFIG or RUN.

--config.KEY=VALUE changes a setting; siamjax/run/settings.py lists all settings with their meaning. A run folder stores
its configuration: training it again resumes it.

Several processes train together by --coordinator HOST:PORT --processes 2 --process 0 (and 1), or by --coordinator auto
on SLURM, a TPU pod or Open MPI."""


class Call(NamedTuple):
    """How a training or an evaluation was called.

    Attributes:
      command: to type again, such as "python launch.py"; messages start with its name.
      about: what --help prints above the flags.
      failure: the exit status after an error.
    """

    command: str
    about: str
    failure: int

    @property
    def name(self) -> str:
        """The name that messages start with."""
        return self.command.removeprefix("python ")


def command(name: str, arguments: Sequence[str]) -> NoReturn:
    """Runs `siamjax train` or `siamjax evaluate`, and ends the process.

    Args:
      name: "train" or "evaluate".
      arguments: those after it: CONFIG or RUN, then flags.
    """
    call = Call(f"siamjax {name}", _ABOUT, failure=2)
    run(call, [f"--mode={name}", *_placed(call, name, list(arguments))])


def run(call: Call, arguments: Sequence[str]) -> NoReturn:
    """Trains or evaluates as the flags in `arguments` say, and ends the process."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, functools.partial(_interrupted, call))
    sys.argv = [call.name, *arguments]  # The flag of the configuration looks for --config.KEY in it.
    app.run(functools.partial(_main, call), flags_parser=functools.partial(_parse, call))
    raise AssertionError("absl ends the process")


def _placed(call, mode, arguments):
    """The arguments, with CONFIG or RUN as a flag."""
    workdir, _ = _taken("--workdir", arguments)
    if not arguments or arguments[0].startswith("-"):
        config, _ = _taken("--config", arguments)
        if (config, workdir) == (None, None) and not _asks_for_help(arguments):
            _fail(call, "name a configuration (siamjax configs lists them), a file of your own, or a run folder")
        return arguments
    place, *flags_ = arguments
    if place not in configs.names() and pathlib.Path(place).is_dir():
        if not pathlib.Path(place, "config.json").is_file():
            _fail(call, f"{place} is a folder, but no run folder: it has no config.json")
        return [f"--workdir={place}", *flags_]
    if not _path(place).is_file():
        _fail(call, f"{place} not found; name a run folder, a file of your own, or one of {_known(call)}")
    if mode == "evaluate" and workdir is None:
        return [f"--workdir={_workdir_of(place)}", *flags_]
    return [f"--config={place}", *flags_]


def _taken(flag, arguments):
    """The value of a flag ("" where it has none, None where it is not given), and the other arguments."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument(flag, dest="value", nargs="?", const="")
    given, others = peek.parse_known_args(arguments)
    return given.value, others


def _asks_for_help(arguments):
    return any(argument in ("-h", "-help", "--help") for argument in arguments)


def _workdir_of(config):
    return str(pathlib.Path("runs") / pathlib.Path(config).stem)


def _known(call):
    """The listed configurations, as they are typed after this command."""
    return ", ".join(f"configs/{name}.py" if call.name == "launch.py" else name for name in configs.names())


def _path(config):
    """Where the file of a configuration is, or should be."""
    place = config.partition(":")[0]
    return configs.names().get(place, pathlib.Path(place))


def _file(call, config):
    """The file of a configuration, with the argument that may follow it after a colon."""
    _, colon, argument = config.partition(":")
    file = _path(config)
    if not file.is_file():
        _fail(call, f"--config {config} not found; name a file of your own, or one of {_known(call)}")
    return f"{file}{colon}{argument}"


def _parse(call, argv):
    """Parses the flags; --config defaults to the configuration of the run folder, or to the quickstart."""
    if _asks_for_help(argv):
        print(f"{call.about}\n\nflags:\n{flags.FLAGS.module_help(sys.modules[__name__])}")
        sys.exit(0)
    config, others = _taken("--config", argv[1:])
    workdir = _taken("--workdir", others)[0] or _workdir_of(config or "quickstart")
    file = _default_file(call, workdir) if config is None else _file(call, config)
    _make_importable(file)
    try:
        rest = flags.FLAGS([argv[0], f"--config={file}", *others])
        flags.FLAGS.workdir = _WORKDIR.value or workdir
        if not isinstance(_CONFIG.value, ConfigDict):
            raise TypeError("get_config() of the file given as --config must return a ConfigDict")
    except Exception as error:  # Whatever a configuration file raises.
        if told := overrides.fault(others, error):
            _fail(call, f"{told} ({call.command} --help explains)")
        settings = [argument for argument in others if argument.startswith("--config.")]
        if config is not None:
            settings.insert(0, f"--config={config}")
        about = f"given: {' '.join(settings)}; " if settings else ""
        kind = "" if isinstance(error, (flags.Error, ValueError, OSError)) else f"{type(error).__name__}: "
        _fail(call, f"{kind}{_line(error)} ({about}{call.command} --help explains)")
    if rest[1:]:
        _fail(call, f"unexpected argument {rest[1]!r}; a setting is given as --config.KEY=VALUE")
    return rest


def _default_file(call, workdir):
    from siamjax.run import Run  # Imports JAX, which takes a second; not needed if --config is given.

    run = Run(workdir)
    if not run.is_started:
        return str(configs.names()["quickstart"])
    try:
        run.settings  # noqa: B018  A fault of the file is told here in one line; the flag below would print a traceback.
    except (ValueError, OSError) as error:
        _fail(call, _line(files.explained(error)))
    return f"{configs.folder() / 'saved.py'}:{workdir}"


def _make_importable(file):
    """Lets configuration files import each other by `from configs import NAME`: those that come with siamjax, and,
    before them, those beside `file` if its folder has that name."""
    own = pathlib.Path(file.partition(":")[0]).resolve().parent
    package = types.ModuleType("configs")
    package.__path__ = [str(own)] * (own.name == "configs") + [str(configs.folder())]
    sys.modules["configs"] = package


def _main(call, _):
    if int(flags.FLAGS["verbosity"].value or 0) < 1:
        logging.set_verbosity(logging.ERROR)
    if _PROCESS.value in (None, 0) and _COORDINATOR.value != "auto":
        print(f"{_MODE.value} {_WORKDIR.value}: loading JAX, then the data", flush=True)
    # Slow imports come after the flags, so that a misspelt flag is reported at once.
    from siamjax import parallel

    place = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    try:
        if place != (None, None, None):
            parallel.start(*place, join_timeout=_JOIN_TIMEOUT.value)
        workdir = pathlib.Path(str(_WORKDIR.value))
        if _MODE.value == "evaluate":
            from siamjax.evaluate import evaluate

            evaluate(_CONFIG.value, workdir)
        else:
            from siamjax.train import train

            train(_CONFIG.value, workdir, _typed(call))
    except Exception as error:
        expected = isinstance(error, (ValueError, OSError, FloatingPointError, ImportError, parallel.DeviceError))
        if flags.FLAGS.verbosity > 0 or not expected:
            traceback.print_exc()
        told = files.explained(error) if isinstance(error, OSError) else parallel.explain(error)
        _leave(call, call.failure, _line(told))


def _typed(call):
    """The command of this training, to type again."""
    return shlex.join([*call.command.split(), *(flag for flag in sys.argv[1:] if not flag.startswith("--mode="))])


def _interrupted(call, *_):
    """Leaves at once: an exception raised in a function that JAX calls from C++ would be printed there and lost."""
    shown = "\n\x1b[?25h" if sys.stderr.isatty() else ""  # The terminal has printed ^C, and the bar hides the cursor.
    os.write(2, f"{shown}{call.name}: interrupted{_how_to_resume()}\n".encode())
    os._exit(130)


def _how_to_resume():
    """What the same command does after an interrupt; "" if it only evaluates, or if flags are still being read."""
    if not flags.FLAGS.is_parsed() or _MODE.value != "train":
        return ""
    # As `Run.has_checkpoint` finds them; its module may be half imported at this moment.
    found = pathlib.Path(str(_WORKDIR.value), "checkpoints").expanduser().glob("*/*")
    if any(path.name.isdigit() for path in found):
        return "; the same command resumes from the latest checkpoint"
    return " before the first checkpoint; the same command starts from the beginning"


def _fail(call, message):
    print(f"{call.name}: {message}", file=sys.stderr)
    sys.exit(call.failure)


def _leave(call, status, message):
    """Ends the process without cleanup: a normal exit would wait for other processes, and XLA's threads would crash."""
    sys.stdout.flush()
    print(f"{call.name}: {message}", file=sys.stderr, flush=True)
    os._exit(status)


def _line(error):
    """The message of an error on one line, without the quotes that KeyError adds."""
    text = " ".join(str(error).replace("\\n", " ").replace("\\'", "'").split())
    return text[1:-1] if text[:1] == text[-1:] and text[:1] in ("'", '"') else text
