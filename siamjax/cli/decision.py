"""The options that move the threshold of a command that decides."""

import argparse
import sys
from typing import Any


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds `--threshold` and `--far`, of which one may be given."""
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--threshold", type=float, metavar="SCORE", help="same above this score; default: as fitted on validation pairs"
    )
    group.add_argument(
        "--far",
        type=float,
        metavar="RATE",
        help="the threshold at which this share of different pairs is called the same (0.01, say), as the validation "
        "pairs tell; it changes answers, not probabilities",
    )


def arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The options as `Network.load` and `Gallery` take them."""
    return {"threshold": options.threshold, "far": options.far}


def note(options: argparse.Namespace, network: Any, enrolled: int = 1) -> None:
    """Says on standard error what a false accept rate that was asked for rests on; `enrolled` images are compared."""
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
