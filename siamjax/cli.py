"""The command `siamjax`: a trained network on image files, and galleries of known identities.

A CHECKPOINT is the run folder of a training (`launch.py --workdir`).
"""

import argparse
import dataclasses
import io
import json
import os
import pathlib
import sys
import zipfile

from absl import logging

from siamjax import files, host


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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, about):
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        return command

    for command in (*_network_commands(add), *_gallery_commands(add)):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _network_commands(add):
    """Adds the commands that need a network alone; returns those that can print JSON."""
    embed = add("embed", _embed, "write embeddings of images to an .npz file: embeddings [n, d], paths [n]")
    embed.add_argument("checkpoint")
    embed.add_argument("paths", nargs="+", metavar="PATH", help="an image, or a folder of images")
    embed.add_argument("-o", "--output", required=True, metavar="FILE.npz")

    probe = add(
        "probe", _probe, "what do embeddings say of something else? k-NN and linear models, in five folds of groups"
    )
    probe.add_argument("embeddings", metavar="FILE.npz", help="as embed writes it")
    probe.add_argument("targets", metavar="TABLE.csv", help="path,target[,group]; paths start from its folder")
    probe.add_argument("--regression", action="store_true", help="targets are quantities, and figures R²; not classes")

    verify = add("verify", _verify, "are two images of the same identity?")
    verify.add_argument("checkpoint")
    verify.add_argument("first", metavar="IMAGE")
    verify.add_argument("second", metavar="IMAGE")

    pairs = add("pairs", _pairs, "how well are the pairs of a list verified? accuracy, ROC figures, LFW's folds")
    pairs.add_argument("checkpoint")
    pairs.add_argument("list", metavar="LIST", help="CSV file path_a,path_b,same; or LFW's pairs.txt")
    pairs.add_argument("--images", metavar="FOLDER", help="that the list's paths start from; default: the list's own")

    export = add("export", _export, "write the network as StableHLO and safetensors, for programs without siamjax")
    export.add_argument("checkpoint")
    export.add_argument("-o", "--output", required=True, metavar="FOLDER")
    return probe, verify, pairs


def _gallery_commands(add):
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


def _embed(options):
    import numpy as np

    from siamjax.verifier import Verifier

    verifier = Verifier(options.checkpoint)
    paths, _ = _images(options.paths)
    embeddings = verifier.embed(verifier.read(paths), "embedding")
    buffer = io.BytesIO()
    np.savez(buffer, embeddings=embeddings, paths=np.array([files.shown(os.path.abspath(path)) for path in paths]))
    files.write(pathlib.Path(options.output), buffer.getvalue())
    print(f"{options.output}: {len(paths)} embeddings of {embeddings.shape[1]} components")


def _probe(options):
    import numpy as np

    from siamjax import report
    from siamjax.evaluation import probe

    place = pathlib.Path(options.targets)
    rows = list(files.table(place, ("path", "target"), "path,target[,group]"))
    try:
        with np.load(options.embeddings) as file:
            embeddings, paths = file["embeddings"], file["paths"].tolist()
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{options.embeddings} is not what `siamjax embed` writes ({error})") from error
    number, chosen, targets = {path: number for number, path in enumerate(paths)}, [], []
    groups = []
    for where, row in rows:
        if not row["path"] or not row["target"]:
            raise ValueError(f"{where}: a path and a target are needed")
        path = files.shown(os.path.abspath(place.parent / row["path"]))
        if path not in number:
            raise ValueError(f"{where}: {options.embeddings} holds no embedding of {path}")
        try:
            targets.append(float(row["target"]) if options.regression else row["target"])
        except ValueError as error:
            raise ValueError(f"{where}: target {row['target']!r} is no number, as --regression wants") from error
        chosen.append(number[path])
        groups.append(row.get("group") or path)
    figures = probe.cross_validated(embeddings[chosen], np.array(targets), np.array(groups))
    if options.json:
        return print(json.dumps(figures))
    report.figures(figures, f"{len(chosen)} images, five folds; {'R²' if options.regression else 'accuracy'}")


def _verify(options):
    from siamjax.verifier import Verifier

    answer = Verifier(options.checkpoint).verify(options.first, options.second)
    if options.json:
        return print(json.dumps(dataclasses.asdict(answer)))
    print(
        f"{'same' if answer.same else 'different'}: probability of the same {100 * answer.probability:.1f} %, score "
        f"{answer.score:.3f} (same above {answer.threshold:.3f}), distance {answer.distance:.3f}"
    )


def _pairs(options):
    import numpy as np

    from siamjax import report
    from siamjax.data import pair_list
    from siamjax.evaluation import verification
    from siamjax.verifier import Verifier

    verifier, pairs = Verifier(options.checkpoint), pair_list.read(options.list, options.images)
    images, numbers = np.unique([*map(str, pairs.first), *map(str, pairs.second)], return_inverse=True)
    embeddings = verifier.embed(verifier.read(images.tolist()), "embedding")
    scores = verifier.score_pairs(embeddings, numbers.reshape(2, -1).T.astype(np.int32))
    figures = {"accuracy": float((verifier.decision.same(scores) == pairs.same).mean())}
    if pairs.fold.max() > 0:
        figures["folds_accuracy"], figures["folds_standard_error"] = verification.folds(scores, pairs.same, pairs.fold)
    figures |= verification.measures(scores, pairs.same)
    if options.json:
        return print(json.dumps(figures))
    report.figures(figures, f"{len(scores)} pairs of {options.list}; accuracy at the threshold of the run")


def _enroll(options):
    from siamjax.gallery import Gallery

    paths, identities = _images(options.paths)
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


def _export(options):
    from siamjax.export import export

    place = export(options.checkpoint, options.output)
    for path in sorted(place.iterdir()):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def _row(match):
    return dataclasses.asdict(match) | {"thumbnail": str(match.thumbnail)}


def _images(paths):
    """Image files and the identity that each one's folder says."""
    from siamjax.data import folder

    images, identities = [], []
    for path in paths:
        if os.path.isdir(path):
            found = folder.find(path)
            images += [str(file.path) for file in found]
            identities += [file.identity for file in found]
        else:
            images.append(path)
            identities.append(pathlib.Path(os.path.abspath(path)).parent.name)
    return images, identities
