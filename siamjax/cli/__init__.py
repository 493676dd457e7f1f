"""The command `siamjax`: training, a trained network on image files, and galleries of known identities."""

import argparse
import os
import sys

from siamjax import __version__, files, host
from siamjax.cli import configs, faces, gallery, network, report, serve

_ABOUT = """CHECKPOINT is the run folder of a training, or the name of a network that comes with siamjax
(omniglot-fast, omniglot-best), or of an architecture with published weights (mobilenet_v2, ...), whose features of
any photograph `embed`, `enroll` and `search` use without training.

exit status:
  0  success; verify: same identity
  1  verify: different identities
  2  error, reported on standard error; unreadable images do not stop the others from being processed
"""

# Functions that add commands. Each is called with `add`: (name, function of the options, description) -> parser.
GROUPS = [
    configs.add_commands,
    report.add_commands,
    network.add_commands,
    gallery.add_commands,
    faces.add_commands,
    serve.add_commands,
]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command with `arguments`, or those of the process if None; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] in (["train"], ["evaluate"]):
        from siamjax.cli import training  # Its flags are absl's, and slow to import.

        training.command(arguments[0], arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has stopped, such as `| head`. Python would flush the rest at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE, as shells report it.
    except (ValueError, OSError, ImportError, MemoryError) as error:
        reason = " ".join(files.explained(error).split()) or "there is not enough memory"
        print(f"siamjax {options.command}: {files.shown(reason)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"siamjax {options.command}: interrupted", file=sys.stderr)
        return 130
    return status


def command() -> None:
    """The entry point of the installed command `siamjax`."""
    sys.unraisablehook = _unraisable
    try:
        host.tune()
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("siamjax: interrupted", file=sys.stderr)
        status = 130
    if status == 130:
        os._exit(status)  # Threads that still compute would be waited for, and another interrupt be a traceback.
    sys.exit(status)


def _unraisable(error):
    """An interrupt during a callback of the garbage collector would be printed and forgotten."""
    if not isinstance(error.exc_value, KeyboardInterrupt):
        return sys.__unraisablehook__(error)
    print("siamjax: interrupted", file=sys.stderr, flush=True)
    os._exit(130)


def _parser():
    parser = argparse.ArgumentParser(
        prog="siamjax", description=__doc__, epilog=_ABOUT, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"siamjax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, about):
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    for add_commands in GROUPS:
        add_commands(add)
    return parser
