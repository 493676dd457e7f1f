"""Where faces are in a photograph: MTCNN in JAX, with the weights that the package mtcnn carries."""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from siamjax import extras

_CANVAS = 384  # side of the square that a photograph is searched in, with a margin around it
_WITHIN = 320  # its longest side there
_CELL, _STRIDE = 12, 2  # pixels that a proposal is made from, and between two of them
_LEVELS = tuple(round(_CANVAS / 2 * 0.709**level) for level in range(9))  # faces of 24 pixels and larger
_PROPOSED, _REFINED = 64, 16  # windows that the second and third network see; those with the highest scores
_THRESHOLDS = (0.6, 0.7, 0.8)  # of the three networks' probabilities
_SIDES = (24, 48)  # of the windows that the second and third network see

Weights = Sequence[jax.Array]


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a photograph, in pixels from its upper left corner.

    Attributes:
      box: left, top, right and bottom; may reach beyond the photograph.
      landmarks: [5, 2], x and y: the eyes, the nose, the corners of the mouth; left before right, as seen.
      score: probability of a face, above 0.8.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


def detect(image: Image.Image) -> list[Face]:
    """The faces of a photograph in mode RGB whose side is a fourteenth of its longest side or more, best first.

    Zhang et al.: Joint Face Detection and Alignment Using Multi-task Cascaded Convolutional Networks (2016),
    https://arxiv.org/abs/1604.02878. Three networks: one proposes windows at nine scales, two refine them.

    Raises:
      ModuleNotFoundError: the package mtcnn is not installed.
    """
    proposing, refining, output = _weights()
    canvas, scale, corner = _on_canvas(image)
    levels = jax.device_get(_propose(proposing, jnp.asarray(np.asarray(canvas))))
    boxes, scores = zip(*(_distinct(boxes, scores, _THRESHOLDS[0], 0.5) for boxes, scores in levels), strict=True)
    boxes, scores = _distinct(np.concatenate(boxes), np.concatenate(scores), _THRESHOLDS[0], 0.7)
    boxes = _square(boxes[:_PROPOSED])
    shifts, scores = jax.device_get(_refine(refining, _windows(canvas, boxes, _SIDES[0], _PROPOSED)))
    boxes, scores = _distinct(_shifted(boxes, shifts), scores[: len(boxes)], _THRESHOLDS[1], 0.7)
    boxes = _square(boxes[:_REFINED])
    shifts, points, scores = jax.device_get(_output(output, _windows(canvas, boxes, _SIDES[1], _REFINED)))
    sides = (boxes[:, 2:] - boxes[:, :2])[:, None]
    points = boxes[:, None, :2] + points[: len(boxes)].reshape(-1, 2, 5).swapaxes(1, 2) * sides
    boxes, scores, points = _distinct(_shifted(boxes, shifts), scores[: len(boxes)], _THRESHOLDS[2], 0.5, points)
    return [
        Face((box - np.tile(corner, 2)) / scale, (landmarks - corner) / scale, float(score))
        for box, landmarks, score in zip(boxes, points, scores, strict=True)
    ]


@functools.cache
def _weights() -> list[Weights]:
    """Of the three networks: kernel, bias and slopes of each layer, as arrays."""
    with extras.needed_for("cropping photographs to their faces"):
        import joblib

        # Importing the package would import TensorFlow, for which it has its own networks.
        found = importlib.util.find_spec("mtcnn")
        if found is None or not found.submodule_search_locations:
            raise ModuleNotFoundError("No module named 'mtcnn'", name="mtcnn")
    folder = pathlib.Path(found.submodule_search_locations[0], "assets", "weights")
    return [[jnp.asarray(part) for part in joblib.load(folder / f"{name}.lz4")] for name in ("pnet", "rnet", "onet")]


def _on_canvas(image: Image.Image) -> tuple[Image.Image, float, np.ndarray]:
    """The photograph in the middle of a grey square; pixels there per pixel of the photograph, and where it begins."""
    scale = _WITHIN / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    left, top = (_CANVAS - width) // 2, (_CANVAS - height) // 2
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), (128, 128, 128))
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    return canvas, scale, np.array([left, top], np.float64)


@jax.jit
def _propose(weights: Weights, canvas: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """uint8 [h, h, 3] -> for each scale windows [k, 4], on the canvas, and their scores [k]."""
    return [_level(weights, canvas, side) for side in _LEVELS]


def _level(weights, canvas, side):
    x = jax.image.resize(_normalised(canvas), (side, side, 3), "linear")[None]
    x = _pooled(_layer(x, weights[:3]), 2, "SAME")
    x = _layer(_layer(x, weights[3:6]), weights[6:9])
    shifts, faces = _convolved(x, *weights[9:11])[0], jax.nn.softmax(_convolved(x, *weights[11:])[0])[..., 1]
    rows, columns = faces.shape
    scores, chosen = jax.lax.top_k(faces.ravel(), min(_PROPOSED, faces.size))
    corner = _STRIDE * jnp.stack([chosen % columns, chosen // columns], axis=1)
    boxes = jnp.concatenate([corner, corner + _CELL], axis=1) + _CELL * shifts.reshape(rows * columns, 4)[chosen]
    return boxes * (_CANVAS / side), scores


@jax.jit
def _refine(weights: Weights, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """uint8 [n, 24, 24, 3] -> shifts of the windows' edges [n, 4], in their sides, and scores [n]."""
    x = _pooled(_layer(_normalised(windows), weights[:3]), 3, "SAME")
    x = _pooled(_layer(x, weights[3:6]), 3, "VALID")
    x = _joined(_layer(x, weights[6:9]), weights[9:12])
    return _dense(x, *weights[12:14]), jax.nn.softmax(_dense(x, *weights[14:]))[:, 1]


@jax.jit
def _output(weights: Weights, windows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """uint8 [n, 48, 48, 3] -> as `_refine`, and in the middle landmarks [n, 10]: x of all five, then y, in sides."""
    x = _pooled(_layer(_normalised(windows), weights[:3]), 3, "SAME")
    x = _pooled(_layer(x, weights[3:6]), 3, "VALID")
    x = _pooled(_layer(x, weights[6:9]), 2, "SAME")
    x = _joined(_layer(x, weights[9:12]), weights[12:15])
    return _dense(x, *weights[15:17]), _dense(x, *weights[17:19]), jax.nn.softmax(_dense(x, *weights[19:]))[:, 1]


def _normalised(pixels):
    return (pixels.astype(jnp.float32) - 127.5) / 128


def _convolved(x, kernel, bias):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + (
        bias.reshape(1, 1, 1, -1)
    )


def _layer(x, weights):
    kernel, bias, slopes = weights
    x = _convolved(x, kernel, bias)
    return jnp.where(x > 0, x, slopes.reshape(1, 1, 1, -1) * x)


def _joined(x, weights):
    """A dense layer over all of x [n, h, w, c], which the weights take column by column."""
    kernel, bias, slopes = weights
    x = _dense(x.swapaxes(1, 2).reshape(len(x), -1), kernel, bias)
    return jnp.where(x > 0, x, slopes.reshape(1, -1) * x)


def _dense(x, kernel, bias):
    return x @ kernel + bias.reshape(1, -1)


def _pooled(x, side, padding):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, side, side, 1), (1, 2, 2, 1), padding)


def _windows(canvas: Image.Image, boxes: np.ndarray, side: int, count: int) -> jax.Array:
    """What the boxes [k, 4] show, uint8 [count, side, side, 3], of which the last are empty; k is at most `count`."""
    windows = np.zeros((count, side, side, 3), np.uint8)
    for number, (left, top, right, bottom) in enumerate(np.rint(boxes).astype(int).tolist()):
        window = canvas.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        windows[number] = np.asarray(window.resize((side, side), Image.Resampling.BILINEAR))
    return jnp.asarray(windows)


def _square(boxes: np.ndarray) -> np.ndarray:
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1)


def _shifted(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    return boxes + shifts[: len(boxes)] * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _distinct(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, most: float, *others: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Those with a score above the threshold, best first, of which no two share more than `most` of their union."""
    order = [number for number in np.argsort(-scores, kind="stable") if scores[number] > threshold]
    area, kept = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1), []
    for number in order:
        corners = np.maximum(boxes[number, :2], boxes[kept, :2]), np.minimum(boxes[number, 2:], boxes[kept, 2:])
        shared = np.prod(np.maximum(corners[1] - corners[0], 0), axis=1)
        if (shared <= most * (area[number] + area[kept] - shared)).all():
            kept.append(number)
    return boxes[kept], scores[kept], *(other[kept] for other in others)
