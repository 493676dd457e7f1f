"""The command `siamjax`: a trained network on image files, and galleries of known identities."""

import argparse
import os
import sys

from siamjax import __version__, host
from siamjax.cli import gallery, network

_ABOUT = """CHECKPOINT is the run folder of a training (`launch.py --workdir`), or the name of a network that comes with
siamjax (omniglot-fast).

exit status:
  0  success; verify: same identity
  1  verify: different identities
  2  error, reported on standard error; unreadable images do not stop the others from being processed
"""

# Functions that add commands. Each is called with `add`: (name, function of the options, description) -> parser.
GROUPS = [network.add_commands, gallery.add_commands]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command with `arguments`, or those of the process if None; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has stopped, such as `| head`. Python would flush the rest at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE, as shells report it.
    except (ValueError, OSError, ImportError) as error:
        print(f"siamjax {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def command() -> None:
    """The entry point of the installed command `siamjax`."""
    host.tune()
    sys.exit(main())


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
