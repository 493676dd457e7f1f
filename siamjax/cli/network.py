"""The commands that need a network and no gallery: `embed`, `probe`, `verify`, `pairs` and `export`."""

import argparse
import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Callable

from siamjax import files
from siamjax.cli import decision, images


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `add` as in `siamjax.cli.GROUPS`."""
    embed = add("embed", _embed, "write embeddings of images to an .npz file: embeddings [n, d], paths [n]")
    embed.add_argument("checkpoint")
    embed.add_argument("paths", nargs="+", metavar="PATH", help=images.HELP)
    embed.add_argument("-o", "--output", required=True, metavar="FILE.npz")

    probe = add(
        "probe",
        _probe,
        "how well do embeddings predict another target? k-NN and linear models, five-fold cross-validation by group",
    )
    probe.add_argument("embeddings", metavar="FILE.npz", help="written by embed")
    probe.add_argument("targets", metavar="TABLE.csv", help="path,target[,group]; paths are relative to its folder")
    probe.add_argument(
        "--regression", action="store_true", help="targets are numbers, and figures are R²; default: classes, accuracy"
    )

    about = "is an image of the same identity as another, or several others? exit status 0: yes, 1: no, 2: error"
    verify = add("verify", _verify, about)
    verify.add_argument("checkpoint")
    of_one = f"of one identity; with two towers one, of the first side: {images.HELP}"
    verify.add_argument("first", nargs="+", metavar="REFERENCE", help=of_one)
    verify.add_argument("second", metavar="IMAGE", help="compared with the references")

    decision.add_options(verify)

    pairs = add("pairs", _pairs, "verify a list of pairs: accuracy, ROC figures, mean over LFW's folds")
    pairs.add_argument("checkpoint")
    pairs.add_argument("list", metavar="LIST", help="CSV file path_a,path_b,same; or LFW's pairs.txt")
    pairs.add_argument("--images", metavar="FOLDER", help="paths are relative to it; default: the folder of LIST")
    pairs.add_argument("-o", "--output", metavar="FILE.csv", help="write path_a,path_b,same,score,probability,accepted")

    decision.add_options(pairs)

    export = add(
        "export", _export, "write the network as StableHLO and safetensors, or ONNX, for programs without siamjax"
    )
    export.add_argument("checkpoint")
    export.add_argument("--format", choices=["stablehlo", "onnx"], default="stablehlo", help="(default stablehlo)")
    export.add_argument("-o", "--output", required=True, metavar="FOLDER", help="new or empty, or of an earlier export")


def _embed(options):
    import numpy as np

    from siamjax.network import Network

    files.check_writable(pathlib.Path(options.output))
    network = Network.load(options.checkpoint)
    paths, embeddings, unreadable = [], [], 0
    for part in images.read("embed", network, images.find(options.paths)[0]):
        readable = [(path, image) for path, image, _ in part if image is not None]
        unreadable += len(part) - len(readable)
        if readable:
            paths += [files.shown(os.path.abspath(path)) for path, _ in readable]
            embeddings.append(network.embed(np.stack([image for _, image in readable]), "embedding"))
    if not paths:
        return 2
    embeddings, buffer = np.concatenate(embeddings), io.BytesIO()
    np.savez(buffer, embeddings=embeddings, paths=np.array(paths))
    files.write(pathlib.Path(options.output), buffer.getvalue())
    if options.json:
        print(json.dumps({"output": options.output, "images": len(paths), "components": embeddings.shape[1]}))
    else:
        images.say(f"{options.output}: {len(paths)} embeddings of {embeddings.shape[1]} components")
    return 2 if unreadable else 0


def _probe(options):
    import numpy as np

    from siamjax import report
    from siamjax.evaluation import probe

    place = pathlib.Path(options.targets)
    rows = list(files.table(place, ("path", "target"), "path,target[,group]"))
    embeddings, paths = _embeddings(options.embeddings)
    number, chosen, targets = {path: number for number, path in enumerate(paths)}, [], []
    groups = []
    for where, row in rows:
        if not row["path"] or not row["target"]:
            raise ValueError(f"{where}: expected a path and a target")
        path = files.shown(os.path.abspath(place.parent / row["path"]))
        if path not in number:
            raise ValueError(f"{where}: {options.embeddings} has no embedding of {path}; embed that image too")
        try:
            targets.append(float(row["target"]) if options.regression else row["target"])
        except ValueError as error:
            raise ValueError(
                f"{where}: target {row['target']!r} is not a number; for classes, omit --regression"
            ) from error
        chosen.append(number[path])
        groups.append(row.get("group") or path)
    figures = probe.cross_validated(embeddings[chosen], np.array(targets), np.array(groups))
    if options.json:
        return print(json.dumps(figures))
    report.figures(figures, f"{len(chosen)} images, five folds; {'R²' if options.regression else 'accuracy'}")


def _embeddings(place):
    """The embeddings [n, d] and the n paths in a file of `siamjax embed`."""
    import numpy as np

    try:
        found = files.arrays(place, ("embeddings", "paths"))
        embeddings, paths = found["embeddings"], found["paths"]
        if embeddings.ndim != 2 or embeddings.dtype.kind != "f" or not np.isfinite(embeddings).all():
            raise ValueError(f"embeddings are {embeddings.dtype} {list(embeddings.shape)}, or not finite")
        if paths.dtype.kind != "U" or paths.shape != embeddings.shape[:1]:
            raise ValueError(f"{len(embeddings)} embeddings, and paths {paths.dtype} {list(paths.shape)}")
        return embeddings, paths.tolist()
    except ValueError as error:
        raise ValueError(
            f"{files.shown(place)} is not a file of `siamjax embed`, or damaged ({error}); write one with siamjax "
            "embed -o"
        ) from error


def _verify(options):
    from siamjax.network import Network

    network = Network.load(options.checkpoint, **decision.arguments(options))
    decision.note(options, network)
    references = images.of_one(options.first)
    answer = network.verify(references, options.second)
    if not answer.familiar:
        named = *references, options.second
        which = f"{' or '.join(named)} is" if len(named) == 2 else f"one of the {len(named)} images is"
        images.strange("verify", which)
    if options.json:
        print(json.dumps(dataclasses.asdict(answer)))
    else:
        images.say(
            f"{'same' if answer.same else 'different'}: probability of same {100 * answer.probability:.1f} %, "
            f"score {answer.score:.3f} (same above {answer.threshold:.3f}), distance {answer.distance:.3f}"
        )
    return 0 if answer.same else 1


def _pairs(options):
    import numpy as np

    from siamjax import report
    from siamjax.data import pair_list
    from siamjax.evaluation import verification
    from siamjax.network import Network

    if options.output:
        files.check_writable(pathlib.Path(options.output))
    pairs = pair_list.read(options.list, options.images)
    network = Network.load(options.checkpoint, **decision.arguments(options))
    decision.note(options, network)
    paths, numbers = np.unique([*map(str, pairs.first), *map(str, pairs.second)], return_inverse=True)
    numbers = numbers.reshape(2, -1).T.astype(np.int32)
    pixels = network.read(paths.tolist())
    embeddings = network.embed_pairs(pixels, numbers, "embedding")
    if strange := int(np.sum(~network.decision.knows(pixels))):
        images.strange("pairs", f"{strange} of {len(paths)} images are")
    scores = network.score_pairs(embeddings, numbers)
    accepted, same = network.decision.same(scores), np.asarray(pairs.same, bool)
    counts = {
        "true_accepts": int(np.sum(accepted & same)),
        "false_rejects": int(np.sum(~accepted & same)),
        "false_accepts": int(np.sum(accepted & ~same)),
        "true_rejects": int(np.sum(~accepted & ~same)),
    }
    figures = {"accuracy": float((accepted == same).mean())}
    if pairs.fold.max() > 0:
        figures["folds_accuracy"], figures["folds_standard_error"] = verification.folds(scores, pairs.same, pairs.fold)
    if same.any() and not same.all():
        figures |= verification.measures(scores, pairs.same)
    if options.output:
        _write_scores(options.output, pairs, scores, network.decision)
    threshold = network.decision.threshold
    if options.json:
        return print(json.dumps(figures | {"threshold": threshold} | counts))
    report.figures(figures, f"{len(scores)} pairs of {options.list}; accuracy at the threshold of the run")
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    images.say(f"at the threshold {threshold:.3f}: {told}")
    if options.output:
        images.say(f"wrote {options.output}")


def _write_scores(output, pairs, scores, decision):
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path_a", "path_b", "same", "score", "probability", "accepted"])
    values = (pairs.first, pairs.second, pairs.same, scores, decision.probability(scores), decision.same(scores))
    for first, second, same, score, probability, accepted in zip(*values, strict=True):
        rows.writerow([first, second, int(same), f"{score:.9g}", f"{probability:.6g}", int(accepted)])
    files.write(pathlib.Path(output), text.getvalue().encode(errors="surrogateescape"))


def _export(options):
    from siamjax.export import export, exported

    written = exported(export(options.checkpoint, options.output, options.format))
    if options.json:
        return print(json.dumps({str(path): path.stat().st_size for path in written}))
    for path in written:
        images.say(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
