"""The commands on galleries: `enroll`, `identify`, `search`, `remove`, `rename` and `list`."""

import argparse
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable

from siamjax import files
from siamjax.cli import decision, images


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands on galleries by `add(name, function, help)`."""
    enroll = add("enroll", _enroll, "create a gallery, or add images to it; one image per identity is enough")
    enroll.add_argument("gallery", help="folder of the gallery")
    enroll.add_argument("--checkpoint", help="the network, a CHECKPOINT (see siamjax --help); needed for a new gallery")
    enroll.add_argument(
        "--database", metavar="ADDRESS", help="store a new gallery in LanceDB, in a folder or at s3://..."
    )
    enroll.add_argument(
        "--identity", help="name for all images; default: the folder of each, by its path in the given folder"
    )
    enroll.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")
    enroll.add_argument("paths", nargs="+", metavar="PATH", help=f"{images.HELP}; or a folder of such folders")

    identify = add(
        "identify",
        _identify,
        "who is this? ranked identities, or unknown; each with the probability that its image shows the same identity "
        "as the query (of each pair alone: probabilities do not add up to one)",
    )
    decision.add_options(identify)
    identify.add_argument("gallery")
    identify.add_argument("images", nargs="+", metavar="PATH", help=images.HELP)
    identify.add_argument("-k", type=_positive, default=5, help="identities to rank (default 5)")

    search = add("search", _search, "find the enrolled images most similar to an image")
    search.add_argument("gallery")
    search.add_argument("image", metavar="IMAGE")
    search.add_argument("-k", type=_positive, default=10, help="images to find (default 10)")
    search.add_argument("-o", "--output", metavar="FILE.png", help="also draw them on a contact sheet")

    remove = add("remove", _remove, "remove an identity from a gallery")
    remove.add_argument("gallery")
    remove.add_argument("identity")

    rename = add("rename", _rename, "rename an identity; to the name of another one: merge the two")
    rename.add_argument("gallery")
    rename.add_argument("identity")
    rename.add_argument("to", metavar="NAME")

    show = add("list", _list, "list the identities of a gallery with their numbers of images")
    show.add_argument("gallery")

    for command in (identify, search, remove, rename, show):
        command.add_argument("--checkpoint", help="the network, if it has been moved")


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return number


def _enroll(options):
    from siamjax.gallery import Gallery

    given = options.identity and options.identity.strip()  # As it is stored.
    paths, identities = images.find(options.paths, given)
    gallery = Gallery(options.gallery, options.checkpoint, options.database)
    if options.identity is None:
        _warn_of_shared_names(gallery, paths, identities)
    skipped = gallery.enroll(paths, identities, options.skip_unreadable)
    for reason in skipped.values():
        images.note(f"left out: {reason}")
    identities = [identity for number, identity in enumerate(identities) if number not in skipped]
    names = sorted(set(identities))
    if options.json:
        total = {"images": len(gallery), "identities": len(gallery.identities())}
        left_out = {"left_out": {paths[number]: reason for number, reason in skipped.items()}} if skipped else {}
        added = {name: identities.count(name) for name in names}
        return print(json.dumps({"added": added, **left_out, "holds": total}))
    listed = f" ({', '.join(names)})" if len(names) <= 5 else ""
    images.say(
        f"{gallery.folder}: {len(identities)} images of {len(names)} identities{listed} added; it holds {len(gallery)} "
        f"images of {len(gallery.identities())} identities"
    )


def _warn_of_shared_names(gallery, paths, identities):
    """Two folders of the same name may be two identities."""
    folders, warnings = gallery.folders(set(identities)), {}
    for path, identity in zip(paths, identities, strict=True):
        folder = files.shown(os.path.dirname(os.path.abspath(path)))
        if identity in folders and folder not in folders[identity]:
            warnings.setdefault(
                identity, f"{identity} has images from {min(folders[identity])}, and gets more from {folder}"
            )
    for line in list(warnings.values())[:5]:
        images.note(f"{line}; if these are two identities, remove it, and enroll each with its own --identity")
    if len(warnings) > 5:
        images.note(f"{len(warnings) - 5} more identities get images from other folders than before")


def _identify(options):
    import numpy as np

    from siamjax.gallery import Gallery

    gallery = Gallery(options.gallery, options.checkpoint, threshold=options.threshold, far=options.far)
    decision.note(options, gallery.network, len(gallery))
    rows = []
    for part in images.read("identify", gallery.network, images.find(options.images)[0]):
        readable = [(path, image) for path, image, error in part if error is None]
        found = {}
        if readable:
            pixels = np.stack([image for _, image in readable])
            familiar = gallery.network.decision.knows(pixels).tolist()
            identified = gallery.identify(pixels, options.k)
            found = dict(zip([path for path, _ in readable], zip(identified, familiar, strict=True), strict=True))
            if strange := [path for path, (_, known) in found.items() if not known]:
                images.strange("identify", f"{strange[0]} is" if len(strange) == 1 else f"{len(strange)} images are")
        rows += [_answer(path, *found.get(path, (None, False)), error) for path, _, error in part]
        if not options.json:
            _print_answers([(path, found[path][0]) for path, _, error in part if error is None])
    if options.json:
        print(json.dumps(rows))
    return 2 if any("error" in row for row in rows) else 0


def _answer(path, identified, familiar, error):
    if error:
        return {"image": path, "identity": None, "ranked": [], "error": error}
    ranked = [_row(match) for match in identified.ranked]
    return {"image": path, "identity": identified.identity, "ranked": ranked, "familiar": familiar}


def _print_answers(answers):
    for path, identified in answers:
        images.say(f"{path}: {identified.identity or 'unknown'}")
        for match in identified.ranked:
            images.say(f"  {_likely(match)}score {match.score:8.3f}  {match.identity}")


def _search(options):
    from siamjax.gallery import Gallery

    if options.output:
        files.check_writable(pathlib.Path(options.output))
    gallery = Gallery(options.gallery, options.checkpoint)
    (matches,) = gallery.search(gallery.network.read([options.image]), options.k)
    if options.output:
        from siamjax import report

        report.contact_sheet(options.image, matches, options.output)
    if options.json:
        return print(json.dumps([_row(match) for match in matches]))
    for match in matches:
        images.say(f"{_likely(match)}score {match.score:8.3f}  {match.identity}  {match.path}")
    if options.output:
        images.say(f"wrote {options.output}")


def _remove(options):
    from siamjax.gallery import Gallery

    removed = Gallery(options.gallery, options.checkpoint).remove(options.identity)
    if options.json:
        return print(json.dumps({"identity": options.identity, "removed": removed}))
    images.say(f"{options.gallery}: {removed} images of {options.identity} removed")


def _rename(options):
    from siamjax.gallery import Gallery

    found = Gallery(options.gallery, options.checkpoint).rename(options.identity, options.to)
    if options.json:
        return print(json.dumps({"identity": found.identity, "renamed": found.images, "merged": found.merged}))
    done = f"now of {found.identity}, with those it had" if found.merged else f"renamed to {found.identity}"
    images.say(f"{options.gallery}: {found.images} images of {options.identity} {done}")


def _list(options):
    from siamjax.gallery import identities

    counts = identities(pathlib.Path(options.gallery).expanduser())
    if options.json:
        return print(json.dumps(counts))
    for identity, count in counts.items():
        images.say(f"{count:6d}  {identity}")


def _likely(match):
    """The probability of a match as text; "" if there is none."""
    return "" if math.isnan(match.probability) else f"{100 * match.probability:5.1f} % the same  "


def _row(match):
    probability = None if math.isnan(match.probability) else match.probability
    return dataclasses.asdict(match) | {"thumbnail": str(match.thumbnail), "probability": probability}
