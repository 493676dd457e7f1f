"""A network whose embeddings are the pixels, and images for it: what a service answers is then known."""

import base64
import io

import jax
import numpy as np
from flax import linen as nn
from PIL import Image

from siamjax import heads
from siamjax.decision import Decision
from siamjax.network import Inputs, Network
from siamjax.training.state import Model


class Flat(nn.Module):
    """The pixels, in a row."""

    @nn.compact
    def __call__(self, images, train):
        return images.reshape(len(images), -1)


def a_network(decided=True, shape=(12, 12, 1)):
    """Same means nearer than what the head's logit of 0 is."""
    head = heads.Distance()
    nothing = np.zeros((1, int(np.prod(shape))), np.float32)
    params = head.init(jax.random.key(0), nothing, nothing).get("params", {})
    scores = [float(head.apply({"params": params}, nothing, nothing + shift)[0]) for shift in (0.0, 0.5)]
    even = 0.5 * (scores[0] + scores[1])
    decisions = {0: Decision(even, 4 / (scores[0] - scores[1]), even, usual=float(scores[0]))} if decided else {}
    model = Model(Flat(), head)
    return Network(model, {"encoder": {}, "head": params}, {}, inputs=Inputs(shape), decisions=decisions)


def file(grey, side=12, kind="png"):
    """An image file: a square of this grey, 0..255, its upper half as light again by 40."""
    pixels = np.full((side, side), grey, np.uint8)
    pixels[: side // 2] = min(255, grey + 40)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def text(*arguments, **options):
    """The same in base64."""
    return base64.b64encode(file(*arguments, **options)).decode()
