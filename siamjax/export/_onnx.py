"""A network as two ONNX models, which are compared with it before they are written."""

import json
from typing import Any

import jax
import numpy as np
import onnxruntime
from jax import export as jax_export
from jax import numpy as jnp

from siamjax import __version__
from siamjax.augment import scaled
from siamjax.decision import Decision
from siamjax.export import _translate
from siamjax.export._graph import Unsupported
from siamjax.network import Network

_TOLERANCE = 1e-5  # of the largest number of a result, or of 1
_IMAGES = 3  # that are compared


def models(network: Network, decision: Decision | None) -> tuple[dict[str, bytes], int]:
    """The files of a network by name, and the components of an embedding.

    - `embed.onnx`: images uint8 [b, h, w, c] -> embeddings float32 [b, d];
    - `score.onnx`: first and second embeddings, float32 [b, d] each -> scores float32 [b] and, where scores decide,
      probabilities float32 [b].

    Raises:
      ValueError: encoder or head has an operation without a counterpart in ONNX; or a model differs from the network.
    """
    network = _in_float32(network)
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, *network.inputs.shape), np.uint8)
    with jax.default_matmul_precision("highest"):  # not TF32, where there is a GPU
        embeddings = network.embed(images)
    batch, metadata = jax_export.symbolic_shape("b"), _metadata(network, decision)
    pair = jax.ShapeDtypeStruct((*batch, embeddings.shape[1]), jnp.float32)

    def embed(variables, images):
        return (network.model.encoder.apply(variables, scaled(images), train=False),)

    def score(params, first, second):
        scores: Any = network.model.head.apply({"params": params}, first, second)
        if decision is None:
            return (scores,)
        likely = jax.nn.sigmoid(decision.slope * (scores - decision.even))
        return scores, jnp.clip(likely, decision.least, decision.most)

    given = {"images": jax.ShapeDtypeStruct((*batch, *network.inputs.shape), jnp.uint8)}
    made = {"embed.onnx": _made(network, "encoder", embed, given, ["embeddings"], metadata)}
    names = ["scores"] if decision is None else ["scores", "probabilities"]
    made["score.onnx"] = _made(network, "head", score, {"first": pair, "second": pair}, names, metadata)
    _compare(made["embed.onnx"], "encoder", {"images": images}, [embeddings])
    first, second = embeddings, np.roll(embeddings, 1, axis=0)
    with jax.default_matmul_precision("highest"):
        scores = network.score_pairs(embeddings, np.stack([np.arange(_IMAGES), np.arange(_IMAGES) - 1], 1) % _IMAGES)
    expected = [scores] if decision is None else [scores, decision.probability(scores)]
    _compare(made["score.onnx"], "head", {"first": first, "second": second}, expected)
    return made, embeddings.shape[1]


def _in_float32(network):
    """The network with an encoder that computes in float32: ONNX Runtime has few operations in bfloat16."""
    encoder, variables = network.model.encoder, network.variables
    if getattr(encoder, "dtype", jnp.float32) == jnp.float32:
        return network
    model = network.model._replace(encoder=encoder.clone(dtype=jnp.float32))
    params = {"encoder": variables["encoder"]["params"], "head": variables["head"]}
    return Network(model, params, variables["encoder"]["batch_stats"], inputs=network.inputs, settings=network.settings)


def _made(network, part, function, inputs, outputs, metadata):
    try:
        return _translate.model(function, network.variables[part], inputs, outputs, metadata)
    except Exception as error:  # JAX, where a size depends on the number of images, or the checker of the package onnx.
        kind = "" if isinstance(error, Unsupported) else f"{type(error).__name__}: "
        raise ValueError(
            f"format='onnx': the {part} uses what siamjax does not translate to ONNX ({kind}{_line(error)}); export "
            "the network in the format 'stablehlo'"
        ) from error


def _line(error):
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0]


def _compare(content, part, inputs, expected):
    """Raises ValueError unless ONNX Runtime gives the numbers of the network, for a batch and for a single input."""
    try:
        session: Any = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # of classes that it makes when it is imported
        raise ValueError(
            f"format='onnx': ONNX Runtime does not take the model of the {part} ({_line(error)}); export the network "
            "in the format 'stablehlo'"
        ) from error
    for count in (_IMAGES, 1):
        found: Any = session.run(None, {name: array[:count] for name, array in inputs.items()})
        for result, wanted in zip(found, expected, strict=True):
            error = float(np.max(np.abs(result - wanted[:count])))
            if not error <= _TOLERANCE * max(1.0, float(np.max(np.abs(wanted)))):
                raise ValueError(
                    f"format='onnx': the model of the {part} differs from the network by {error:.2g}; export the "
                    "network in the format 'stablehlo', and report this to siamjax with the network's configuration"
                )


def _metadata(network, decision):
    """The metadata that programs need to use the models, as texts; card.json has the rest."""
    found = {
        "siamjax": __version__,
        "network": network.fingerprint,
        "images": json.dumps(["b", *network.inputs.shape]),
    }
    if decision is not None:
        found |= {
            name: repr(float(getattr(decision, name))) for name in ("threshold", "slope", "even", "least", "most")
        }
    return found
