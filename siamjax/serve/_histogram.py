"""The scores of the pairs that a network was tested on, for its page."""

from siamjax.network import Network, tested
from siamjax.run import Run
from siamjax.serve._types import Histogram


def histogram_of(network: Network) -> Histogram | None:
    """From what comes with the network, or the report of its run; None if neither has it for its `copies`."""
    place, run = network.place, Run(network.place)
    if found := tested(place, network.copies):
        return Histogram(**found)
    if not place or not run.is_started or network.copies != run.settings.evaluation.copies:
        return None
    from siamjax import report

    found = report.histogram(run)
    try:
        return None if found is None else Histogram(pairs="the test pairs of its run", **found)
    except (TypeError, ValueError):  # A page of another version may hold anything.
        return None
