"""The command `siamjax`: a trained network on image files, and galleries of known identities."""

import argparse
import os
import sys

from siamjax import __version__, host
from siamjax.cli import gallery, network

_ABOUT = """A CHECKPOINT is the run folder of a training (`launch.py --workdir`).

exit status:
  0  done; of verify: the two are the same
  1  of verify: they are different
  2  trouble, named on standard error; images that cannot be read do not keep the others from their answers
"""

# What adds the commands: functions of one that is called (name, function of the options, description) -> parser.
GROUPS = [network.add_commands, gallery.add_commands]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command with `arguments`, those of the process if None; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads the output has enough (`| head`). What is left must not be tried again as Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # As the shell says of a program that SIGPIPE ended.
    except (ValueError, OSError, ImportError) as error:
        print(f"siamjax {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def command() -> None:
    """The installed command."""
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
