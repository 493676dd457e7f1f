"""The commands on a network alone: `verify`, `pairs`, `embed`, `probe` and `export`."""

import dataclasses
import io
import json
import os
import pathlib
import zipfile

from siamjax import files
from siamjax.cli.images import find


def add_commands(add):
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


def _embed(options):
    import numpy as np

    from siamjax.verifier import Verifier

    verifier = Verifier(options.checkpoint)
    paths, _ = find(options.paths)
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


def _export(options):
    from siamjax.export import export

    place = export(options.checkpoint, options.output)
    for path in sorted(place.iterdir()):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
