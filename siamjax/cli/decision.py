"""The options `--threshold` and `--far` of commands that decide."""

import argparse
import sys
from typing import Any


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds `--threshold` and `--far`, which exclude each other."""
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--threshold", type=float, metavar="SCORE", help="same above this score; default: fitted on validation pairs"
    )
    group.add_argument(
        "--far",
        type=float,
        metavar="RATE",
        help="use the threshold with this false accept rate on validation pairs, such as 0.01; it changes answers, not "
        "probabilities",
    )


def arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The options as keyword arguments of `Network.load` and `Gallery`."""
    return {"threshold": options.threshold, "far": options.far}


def note(options: argparse.Namespace, network: Any, enrolled: int = 1) -> None:
    """Reports on standard error which pairs a requested false accept rate was measured on.

    `enrolled` is the number of images that each query is compared with.
    """
    if options.far is None:
        return
    decision, many = network.decision, ""
    if enrolled > 1:
        many = f"; a stranger is compared with {enrolled} enrolled images, and accepted if any of them is"
    print(
        f"siamjax {options.command}: the threshold {decision.threshold:.4g} accepts at most {100 * options.far:g} % of "
        f"the {decision.false_accepts}{many}",
        file=sys.stderr,
    )
