"""The folder of an exported network: its files by format, their digests, and the card that describes them."""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Literal

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export as jax_export

from siamjax import extras, files, parallel
from siamjax.choices import choose
from siamjax.data import images as image_files
from siamjax.encoders import ARCHITECTURES
from siamjax.network import Network

Format = Literal["stablehlo", "onnx"]

_PLATFORMS = ("cpu", "cuda")
_FILES = (
    {"encoder.stablehlo", "head.stablehlo", "weights.safetensors", "card.json"},
    {"embed.onnx", "score.onnx", "card.json"},
)
_SUMS = "SHA256SUMS"


def export(
    network: str | os.PathLike[str], folder: str | os.PathLike[str], format: Format = "stablehlo"
) -> pathlib.Path:
    """Writes a network to a folder as files that need no siamjax.

    As "stablehlo":

    - `encoder.stablehlo`: images uint8 [b, h, w, c] -> embeddings float32 [b, d], for any b, on CPU and CUDA;
    - `head.stablehlo`: embeddings float32 [b, d] and [b, d] -> scores float32 [b];
    - `weights.safetensors`: the weights of both, by their Flax names.

    `jax.export.deserialize(bytes).call(...)` runs the programs; it needs the package flatbuffers.

    As "onnx" (extra `onnx`), for ONNX Runtime and others, with the weights inside:

    - `embed.onnx`: `images` uint8 [b, h, w, c] -> `embeddings` float32 [b, d], for any b;
    - `score.onnx`: `first` and `second` float32 [b, d] -> `scores` float32 [b], and their `probabilities`.

    Their metadata hold threshold, calibration, the shape of the images and the network's fingerprint. Before they are
    written, they are compared with the network on random images, on the CPU, to 1e-5 of the largest number.

    As both:

    - `card.json`: shape and preprocessing of the images, threshold and calibration of scores, and the configuration;
    - `SHA256SUMS`: digests of the other files; `sha256sum -c SHA256SUMS` compares them.

    The export does not average over distorted copies (`evaluation.copies`); threshold and calibration were fitted
    without them, too. An architecture with published weights has neither.

    Args:
      network: what `Network.load` takes.
      folder: a new or empty one, or one with an earlier export, which is replaced.
      format: "stablehlo" or "onnx".

    Returns:
      The folder.

    Raises:
      FileNotFoundError, ValueError: see `Network.load` and `Network.decision`; or, as "onnx", the network has
        operations without a counterpart, which the message names; or `folder` has other files in it.
      OSError: `folder` cannot be written.
      ImportError: the extra `onnx` is not installed.
    """
    made = choose("format", format, {"stablehlo": _stablehlo, "onnx": _onnx})
    place = pathlib.Path(folder).expanduser()
    earlier = _earlier(place)
    loaded = Network.load(network, copies=0, convolution="direct")
    if len(loaded.inputs.shape) != 3 or loaded.inputs.dtype != "uint8":
        raise ValueError(f"{network}: only networks of images uint8 [n, h, w, c] can be exported")
    if loaded.towers == 2 and format == "onnx":
        raise ValueError(
            f"{network}: this network embeds each side of a pair in its own way; export one side, which "
            "Network.tower(SIDE).save(FOLDER) writes"
        )
    decision = None if loaded.place in ARCHITECTURES else loaded.decision
    written, components = made(loaded, decision)
    card = _card(loaded, decision)
    card["embeddings"] = {"shape": ["b", components], "dtype": "float32"}
    written["card.json"] = json.dumps(card, indent=2).encode()
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in written.items())
    # The digests come first: by them, what a killed export left is known for one, and is replaced.
    for name, content in ({_SUMS: sums.encode()} | written).items():
        files.write(place / name, content)
    if earlier:  # Of the other format, too, which an export may have left that was killed after its digests.
        for name in set().union(*_FILES) - set(written):
            (place / name).unlink(missing_ok=True)
    return place


def _earlier(place):
    """Whether a folder has an earlier export; it has none if it is new or empty, and others raise ValueError."""
    try:
        _sums(place)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        files.check_empty(place, "an export")
        return False
    files.check_writable(place / _SUMS)
    return True


def exported(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """The files that `export` wrote to `folder`, sorted; raises as `check` does, but reads none of the others."""
    place = pathlib.Path(folder).expanduser()
    return sorted(place / name for name in (*_sums(place), _SUMS))


def _stablehlo(network, decision):
    """The files of a network by name, and the components of an embedding."""
    variables, head = network.variables, network.model.head

    def encode(images):
        return network.model.encoder.apply(variables["encoder"], images.astype(jnp.float32) / 255, train=False)

    def score(first, second):
        return head.apply({"params": variables["head"]}, first, second)

    batch = jax_export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((*batch, *network.inputs.shape), jnp.uint8)
    with parallel.portable():
        encoder = jax_export.export(jax.jit(encode), platforms=_PLATFORMS)(images)
        (embeddings,) = encoder.out_avals
        pairs = jax.ShapeDtypeStruct((*batch, embeddings.shape[1]), jnp.float32)
        comparer = jax_export.export(jax.jit(score), platforms=_PLATFORMS)(pairs, pairs)
    tree = flax.traverse_util.flatten_dict(variables, sep="/")
    return {
        "encoder.stablehlo": bytes(encoder.serialize()),
        "head.stablehlo": bytes(comparer.serialize()),
        "weights.safetensors": safetensors.numpy.save({name: np.asarray(x) for name, x in tree.items()}),
    }, embeddings.shape[1]


def _onnx(network, decision):
    with extras.needed_for("format='onnx'"):
        from siamjax.export import _onnx
    return _onnx.models(network, decision)


def check(folder: str | os.PathLike[str]) -> None:
    """Compares the files that `export` wrote to `folder` with their digests, as `sha256sum -c SHA256SUMS` does.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged; the message names it.
    """
    place = pathlib.Path(folder).expanduser()
    for name, digest in _sums(place).items():
        if hashlib.sha256((place / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{place / name} differs from its digest in {_SUMS}; export the network again")


def _sums(place):
    """Name -> digest of the files of the export in a folder."""
    lines = [line.split("  ") for line in (place / _SUMS).read_bytes().decode(errors="replace").splitlines()]
    if any(len(line) != 2 for line in lines) or {line[1] for line in lines} not in _FILES:
        either = " or ".join(", ".join(sorted(names)) for names in _FILES)
        raise ValueError(f"{place / _SUMS} is damaged: expected a digest of each of {either}")
    return {name: digest for digest, name in lines}


def _card(network, decision):
    height, width, channels = network.inputs.shape
    enough = image_files.least((height, width), network.inputs.ink, network.inputs.faces)
    return {
        "images": {
            "shape": ["b", height, width, channels],
            "dtype": "uint8",
            "colour": "RGB" if channels == 3 else "grey",
            "inverted": network.inputs.invert,
            "ink": network.inputs.ink,
            "faces": network.inputs.faces,
            "made": "from the file, in this order, with Pillow: decoded (JPEG with Image.draft), rotated as EXIF says, "
            "8 bits, transparent parts white, cropped to the face if `faces`, as siamjax.data.faces does, grey or RGB, "
            "inverted if `inverted`, or reduced to ink 255 on paper 0 if `ink`, as siamjax.data.ink does, resized and "
            "padded with black",
            "draft": ["RGB" if channels == 3 or network.inputs.faces else "L", [enough, enough]],
            "resize": {
                "function": "ImageOps.pad",
                "size": [width, height],
                "larger": "either side is larger than that of `size`",
                "filter_of_larger": "BOX",
                "filter_of_others": "BILINEAR",
            },
        },
        "decision": decision and _decision_card(decision),
        "config": json.loads(network.settings.to_json()),
    }


def _decision_card(decision):
    return {
        "same": "score > threshold",
        "probability": "min(max(1 / (1 + exp(-slope * (score - even))), least), most)",
        "threshold": decision.threshold,
        "even": decision.even,
        "slope": decision.slope,
        "least": decision.least,
        "most": decision.most,
        "usual": decision.usual,
        # For programs written for older versions, which had one slope below the threshold and one above.
        "below": decision.slope,
        "above": decision.slope,
        "false_accepts": dataclasses.asdict(decision)["false_accepts"],
        "fitted_on_embeddings_averaged_over_copies": 0,
    }
