"""The face of a photograph, cropped so that eyes, nose and mouth are at the same places in all images."""

import numpy as np
from PIL import Image

from siamjax.data import detection

VERSION = 1  # of what `aligned` gives; prepared images of another one are prepared again
# Where eyes, nose and corners of the mouth come, in sides of the crop: their mean places in LFW, but symmetric.
_PLACES = np.array([[0.34, 0.42], [0.66, 0.42], [0.5, 0.61], [0.36, 0.765], [0.64, 0.765]])


class NoFaceError(ValueError):
    """A photograph in which no face is found."""


def aligned(image: np.ndarray, size: int) -> np.ndarray:
    """Finds the face of a photograph, turns it upright and crops it.

    Of several faces, it is the one whose width less the distance of its centre from the middle of the photograph is
    largest. The crop is the similarity transform (rotation, scale, shift) that brings eyes, nose and corners of the
    mouth nearest to fixed places, by least squares; beyond the edges of the photograph it is black.

    Args:
      image: uint8 [h, w, 3], or [h, w, 1] for grey.
      size: side of the crop in pixels.

    Returns:
      uint8 [size, size, 3 or 1], with the channels of `image`.

    Raises:
      ModuleNotFoundError: the extra `faces` is not installed.
      NoFaceError: the photograph shows no face, or only faces smaller than a fourteenth of its longest side.
    """
    grey = image.shape[2] == 1
    photograph = Image.fromarray(image[..., 0] if grey else image)
    faces = detection.detect(photograph.convert("RGB"))
    if not faces:
        raise NoFaceError(
            "no face found; expected one, from the front or half turned, larger than a fourteenth of the longest side"
        )
    widths = np.array([face.box[2] - face.box[0] for face in faces])
    centres = np.array([(face.box[:2] + face.box[2:]) / 2 for face in faces])
    distances = np.linalg.norm(centres - np.array([photograph.size]) / 2, axis=1)
    face = faces[np.argmax(widths - distances)]
    crop = _transformed(photograph, _similarity(_PLACES * size, face.landmarks), size)
    return np.asarray(crop).reshape(size, size, image.shape[2])


def _similarity(places: np.ndarray, landmarks: np.ndarray) -> tuple[complex, complex]:
    """The a and b for which a z + b, with z = x + iy of the places, is nearest to the landmarks [5, 2]."""
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (places, landmarks))
    centred = z - z.mean()
    a = np.vdot(centred, w) / np.vdot(centred, centred)
    return a, w.mean() - a * z.mean()


def _transformed(image: Image.Image, from_crop: tuple[complex, complex], size: int) -> Image.Image:
    """The crop, from an image that is made smaller before, where it would be sampled too sparsely."""
    a, b = from_crop
    if abs(a) > 1:
        smaller = [max(1, round(side / abs(a))) for side in image.size]
        scale = smaller[0] / image.width
        image, a, b = image.resize((smaller[0], smaller[1]), Image.Resampling.BOX), a * scale, b * scale
    return image.transform(
        (size, size),
        Image.Transform.AFFINE,
        (a.real, -a.imag, b.real, a.imag, a.real, b.imag),
        Image.Resampling.BICUBIC,
    )
