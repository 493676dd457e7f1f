"""Images in requests: from base64 to what the network takes, and back to a picture of that."""

import base64
import binascii
import io

import numpy as np
from PIL import Image

from siamjax.data import images
from siamjax.network import Inputs
from siamjax.serve._types import Refusal


def content(text: str, name: str) -> bytes:
    """The bytes of an image that a request calls `name`; raises Refusal unless it is in base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            400, f"{name} is not base64: expected the content of an image file in base64, without a prefix"
        ) from error


def pixels(file: bytes, name: str, inputs: Inputs, most: int) -> np.ndarray:
    """An image file as the network takes it, uint8 [h, w, c]; raises Refusal if it is none, or above `most` pixels."""
    try:
        height, width, channels = inputs.shape
        return images.read(
            name, (height, width), channels, inputs.invert, io.BytesIO(file), most, inputs.ink, inputs.faces
        )
    except ValueError as error:
        raise Refusal(400, str(error)) from error


def picture(image: np.ndarray) -> str:
    """An image uint8 [h, w, c] as a PNG file in base64."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()
