"""Names of identities, as a gallery stores them."""

from collections.abc import Sequence

from siamjax import files


def names_of(identities: Sequence[object], count: int, what: str) -> list[str]:
    """The names of the identities of `count` images or vectors, `what` they are, as stored."""
    if not count:
        raise ValueError(f"there are no {what} to enroll")
    if isinstance(identities, str):
        raise ValueError(f"identities={identities!r}: expected a list, with one name for each of {count} {what}")
    if len(identities) != count:
        raise ValueError(f"identities: found {len(identities)}, expected one for each of {count} {what}")
    return [name_of(identity, f"identities[{number}]") for number, identity in enumerate(identities)]


def name_of(identity: object, argument: str) -> str:
    """The name of one identity, which `argument` of a function has, as stored: without blanks around it."""
    # None and NaN name nobody.
    name = files.named("" if identity is None or identity != identity else identity).strip()
    if not name:
        raise ValueError(f"{argument}={identity!r}: an identity needs a name")
    return name
