"""CEDAR: signatures of 55 people, 24 genuine ones each, and 24 skilled forgeries."""

import dataclasses
import re

import numpy as np
from ml_collections import ConfigDict

from siamjax.data import folder, originals, protocols, splits
from siamjax.data.dataset import Comparisons
from siamjax.data.finding import File
from siamjax.data.types import Datasets, Source

ADDRESS = "https://cedar.buffalo.edu/NIJ/data"
_IMAGE = (
    r"(?P<root>(?:.*?/)??)(?:(?:full_org|full_forg|\d+)/)?"
    r"(?P<kind>original|forgeries)_(?P<signer>\d+)_(?P<number>\d+)\.(?:png|jpg|jpeg|tif|tiff|bmp)"
)
_DRAWS = 10  # of references for each signer


def load(config: ConfigDict, train: bool = True) -> Datasets:
    """CEDAR, for verification that is independent of the writer: the signers of training and test differ.

    An identity is a signer ("signer 7") or the forgeries of a signer ("forgeries of signer 7"), and both are one group,
    so that `batch.per_group=2` brings each signer with the forgeries, and pairs within a group are genuine and forged.
    Signers are split into `folder.folds` folds. Validation and test pairs are genuine-genuine and genuine-forged. The
    comparisons of a fold are

    - "skilled_1_reference": all such pairs;
    - "skilled_5_references": ten times five random references for each signer; queries are the other genuine signatures
      and the forgeries;
    - "random_1_reference" and "random_5_references": likewise, with genuine signatures of the fold's other signers in
      place of the forgeries.

    All images are reduced to their ink, whatever `config.ink` says: the grey of the paper alone separates the
    genuine from the forged, see `ink.written`. Kalera, Srihari, Xu: Offline signature verification and
    identification using distance statistics (2004), https://doi.org/10.1142/S0218001404003630.

    Args:
      config: the `data` part of a configuration; see `protocols.parts_of`.
      train: whether to load the training data too.

    Returns:
      See `Source.load`.

    Raises:
      FileNotFoundError: there are no images.
      ValueError: a file is damaged, or signers have too few signatures.
    """
    found, images = find(config.manual_dir)
    files = {name: _file(found, name, match) for name, match in images.items()}
    how = dataclasses.replace(folder.preparation(config), ink=True, faces=False)
    prepared = originals.prepare(found, files, how, "CEDAR")
    forged = np.array([match["kind"] == "forgeries" for match in images.values()])
    compared = _comparisons(np.array([file.group for file in prepared.files]), forged, config.folder)
    parts = protocols.parts_of(prepared, compared, config, "CEDAR", train)
    return {part: dataset if part == "train" else _with_pairs(dataset) for part, dataset in parts.items()}


def find(place: str) -> tuple[originals.Originals, dict[str, re.Match[str]]]:
    """The images, with "kind", "signer" and "number"; see `originals.find`."""
    return originals.find(place, _IMAGE, "CEDAR", "1/original_1_1.png", ADDRESS)


def _file(found, name, match):
    signer = f"signer {match['signer']}"
    identity = signer if match["kind"] == "original" else f"forgeries of {signer}"
    return File(found.path(name), identity, signer, name)


def _with_pairs(dataset):
    """The data set with the pairs that its decision is fitted to, or judged by."""
    compared = dataset.protocols["skilled_1_reference"]
    pairs = np.stack([compared.references[:, 0], compared.query], axis=1)
    return dataclasses.replace(dataset, pairs=(pairs, compared.same))


def _comparisons(signer: np.ndarray, forged: np.ndarray, own: ConfigDict) -> dict[str, Comparisons]:
    """By protocol; `signer` of each image, [n] names, and whether it is a forgery, bool [n]."""
    rng, drawn = np.random.default_rng(own.seed), {}
    for fold in range(own.folds):
        with_settings = ConfigDict({**own.to_dict(), "fold": fold, "by": "identity"})
        in_fold = splits.split_by(with_settings, signer)["test"]
        for name in np.unique(signer[in_fold]):
            of_signer = in_fold[signer[in_fold] == name]
            genuine = of_signer[~forged[of_signer]]
            strangers = in_fold[(signer[in_fold] != name) & ~forged[in_fold]]
            if len(genuine) < 6 or not forged[of_signer].any():
                raise ValueError(
                    f"CEDAR: {name} has {len(genuine)} genuine signatures and {forged[of_signer].sum()} forgeries; "
                    f"expected 24 of each, and at least 6 and 1: unpack CEDAR again from {ADDRESS}"
                )
            for kind, wrong in (("skilled", of_signer[forged[of_signer]]), ("random", strangers)):
                pairs = drawn.setdefault(f"{kind}_1_reference", [])
                pairs.append((*_pairs(rng, genuine, wrong), fold))
                tuples = drawn.setdefault(f"{kind}_5_references", [])
                tuples += [(*_five(rng, genuine, wrong), fold) for _ in range(_DRAWS)]
    return {name: _joined(rows) for name, rows in drawn.items()}


def _pairs(rng, genuine, wrong):
    """References, queries and `same` of all genuine pairs, and of each genuine signature with up to 24 wrong ones."""
    first, second = np.triu_indices(len(genuine), 1)
    few = min(24, len(wrong))
    others = np.concatenate([rng.choice(wrong, few, replace=False) for _ in genuine])
    references = np.concatenate([genuine[first], np.repeat(genuine, few)])[:, None]
    return references, np.concatenate([genuine[second], others]), np.arange(len(references)) < len(first)


def _five(rng, genuine, wrong):
    """Likewise, of five genuine signatures with the other ones, and with up to 24 wrong ones."""
    order, few = rng.permutation(genuine), min(24, len(wrong))
    queries = np.concatenate([order[5:], rng.choice(wrong, few, replace=False)])
    return np.tile(order[:5], (len(queries), 1)), queries, np.arange(len(queries)) < len(genuine) - 5


def _joined(rows):
    references, query, same, fold = zip(*rows, strict=True)
    folds = np.repeat(fold, [len(each) for each in query]).astype(np.int32)
    return Comparisons(
        np.concatenate(references).astype(np.int32), np.concatenate(query).astype(np.int32), np.concatenate(same), folds
    )


SOURCE = Source(
    load,
    title=lambda config: "cedar",
    evaluators=lambda config: ("verification", "protocols"),
    channels=folder.SOURCE.channels,
    ink=lambda config: True,
)
