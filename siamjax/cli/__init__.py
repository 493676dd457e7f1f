"""The command `siamjax`: a trained network on image files, and galleries of known identities.

A CHECKPOINT is the run folder of a training (`launch.py --workdir`).
"""

import argparse
import sys

from absl import logging

from siamjax import __version__, host
from siamjax.cli import gallery, network


def main(arguments: list[str] | None = None) -> int:
    """Runs the command with `arguments`, those of the process if None; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.set_verbosity(logging.ERROR)
    try:
        options.run(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"siamjax {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def command():
    """The installed command."""
    host.tune()
    sys.exit(main())


def _parser():
    parser = argparse.ArgumentParser(prog="siamjax", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--version", action="version", version=f"siamjax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, about):
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        return command

    for command in (*network.add_commands(add), *gallery.add_commands(add)):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser
