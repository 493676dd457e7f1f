"""The commands on galleries: `enroll`, `identify`, `search`, `remove` and `list`."""

import argparse
import dataclasses
import json

from siamjax.cli.images import find


def add_commands(add):
    """Adds the commands on galleries; returns those that can print JSON."""
    enroll = add("enroll", _enroll, "create a gallery, or add images to it; an identity needs one")
    enroll.add_argument("gallery")
    enroll.add_argument("--checkpoint", help="the network; needed for a new gallery")
    enroll.add_argument(
        "--database", metavar="ADDRESS", help="of a new gallery: keep it in LanceDB, in a folder or at s3://..."
    )
    enroll.add_argument("--identity", help="of all images given; without it, an image is of the folder that it lies in")
    enroll.add_argument(
        "paths", nargs="+", metavar="PATH", help="an image, a folder of them, or a folder of such folders"
    )

    identify = add("identify", _identify, "who is this? ranked identities, or unknown")
    identify.add_argument("gallery")
    identify.add_argument("images", nargs="+", metavar="IMAGE")
    identify.add_argument("-k", type=_positive, default=5, help="identities to name (default 5)")

    search = add("search", _search, "which enrolled images look like this one? writes a contact sheet")
    search.add_argument("gallery")
    search.add_argument("image", metavar="IMAGE")
    search.add_argument("-k", type=_positive, default=10, help="images to find (default 10)")
    search.add_argument("-o", "--output", default="search.png", metavar="FILE.png", help="default search.png")

    remove = add("remove", _remove, "take an identity out of a gallery")
    remove.add_argument("gallery")
    remove.add_argument("identity")

    show = add("list", _list, "the identities of a gallery, with their numbers of images")
    show.add_argument("gallery")

    for command in (identify, search, remove, show):
        command.add_argument("--checkpoint", help="the network, if its run has been moved")
    return identify, search, show


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _enroll(options):
    from siamjax.gallery import Gallery

    paths, identities = find(options.paths)
    if options.identity is not None:
        identities = [options.identity] * len(paths)
    gallery = Gallery(options.gallery, options.checkpoint, options.database)
    gallery.enroll(paths, identities)
    names = sorted(set(identities))
    added = f"{len(paths)} images of {len(names)} identities" + (f" ({', '.join(names)})" if len(names) <= 5 else "")
    print(f"{gallery.place}: {added} added; it holds {len(gallery)} images of {len(gallery.identities())} identities")


def _identify(options):
    from siamjax.gallery import Gallery

    gallery = Gallery(options.gallery, options.checkpoint)
    found = gallery.identify(gallery.verifier.read(options.images), options.k)
    if options.json:
        rows = [
            {"image": image, "identity": one.identity, "ranked": [_row(match) for match in one.ranked]}
            for image, one in zip(options.images, found, strict=True)
        ]
        return print(json.dumps(rows))
    for image, one in zip(options.images, found, strict=True):
        print(f"{image}: {one.identity or 'unknown'}")
        for match in one.ranked:
            print(f"  {100 * match.probability:5.1f} %  score {match.score:8.3f}  {match.identity}")


def _search(options):
    from siamjax import report
    from siamjax.gallery import Gallery

    gallery = Gallery(options.gallery, options.checkpoint)
    (matches,) = gallery.search(gallery.verifier.read([options.image]), options.k)
    report.contact_sheet(options.image, matches, options.output)
    if options.json:
        return print(json.dumps([_row(match) for match in matches]))
    for match in matches:
        print(f"{100 * match.probability:5.1f} %  score {match.score:8.3f}  {match.identity}  {match.path}")
    print(f"wrote {options.output}")


def _remove(options):
    from siamjax.gallery import Gallery

    removed = Gallery(options.gallery, options.checkpoint).remove(options.identity)
    print(f"{options.gallery}: {removed} images of {options.identity} taken out")


def _list(options):
    from siamjax.gallery import Gallery

    identities = Gallery(options.gallery, options.checkpoint).identities()
    if options.json:
        return print(json.dumps(identities))
    for identity, images in identities.items():
        print(f"{images:6d}  {identity}")


def _row(match):
    return dataclasses.asdict(match) | {"thumbnail": str(match.thumbnail)}
