"""Image files as arrays: any file that Pillow reads, upright, in 8 bits, and resized to fit into a square."""

import functools
import io
import os
from collections.abc import Collection
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from siamjax.files import shown

_PLUGIN_ENDINGS = (".heic", ".heif", ".hif")  # read by the package pillow-heif
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@functools.cache
def _register_plugin() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def endings() -> frozenset[str]:
    """The endings of readable image files, such as ".png"; HEIC needs the package pillow-heif."""
    _register_plugin()
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def hint(missing: Collection[str]) -> str:
    """The end of an error message: what to install for files with one of the endings `missing`, or ""."""
    return "; to read HEIC: pip install pillow-heif" if set(_PLUGIN_ENDINGS).intersection(missing) else ""


def opened(file: str | os.PathLike | BinaryIO) -> Image.Image:
    """Opens an image file as `Image.open` does, and HEIC if the package pillow-heif is installed."""
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        # The package takes 0.2 s to import: it is imported only for files that Pillow alone cannot read.
        if not _register_plugin():
            raise
        return Image.open(file)


def read(
    path: str | os.PathLike, size: int, channels: int, invert: bool = False, content: bytes | None = None
) -> np.ndarray:
    """An image file as uint8 [size, size, channels]: the whole image, in its aspect ratio, centred on black.

    It is rotated according to its EXIF data; transparent parts become white; other types become 8 bits, see `upright`.

    Args:
      path: the file, of any kind that Pillow reads.
      size: side in pixels.
      channels: 1 for grey, 3 for colour.
      invert: for dark ink on white paper, so that paper is black like the border.
      content: of the file, if it has been read already.

    Raises:
      ValueError: the file is not an image, is damaged, has more pixels than Pillow considers safe, or values that
        cannot be interpreted, see `upright`.
    """
    try:
        with opened(path if content is None else io.BytesIO(content)) as image:
            image = upright(image, "L" if channels == 1 else "RGB", 2 * size)
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = hint({os.path.splitext(path)[1].lower()}) if unknown else f": {shown(error)}"
        raise ValueError(f"{shown(path)} cannot be read as an image{reason}") from error
    if invert:
        image = ImageOps.invert(image)
    longest = max(image.size)
    width, height = (max(1, round(side / longest * size)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BOX if longest > size else Image.Resampling.BILINEAR)
    square = Image.new(image.mode, (size, size))
    square.paste(resized, (round((size - width) / 2), round((size - height) / 2)))
    return np.asarray(square, np.uint8).reshape(size, size, channels)


def refusal(unreadable: list[str], count: int, skip: str) -> str:
    """An error message on the `unreadable` among `count` images, by their own messages, ten at most; `skip`: the option
    that skips them."""
    more = f"; and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
    remedy = f". Fix or remove them, or skip them with {skip}" if len(unreadable) < count else ""
    return f"{len(unreadable)} of {count} images cannot be read: {'; '.join(unreadable[:10])}{more}{remedy}"


def upright(image: Image.Image, mode: str, least: int) -> Image.Image:
    """An opened image in 8 bits, rotated according to its EXIF data; transparent parts become white.

    Integers are scaled by their type: 0 is black, and the largest value of the type white (4095 for 12 bits, 32767 for
    int16). Floating-point numbers are in 0..1 if none exceeds 1, else in 0..255 or 0..65535, whichever is the first to
    include them all.

    Args:
      image: the opened image.
      mode: "L" or "RGB".
      least: pixels per side that are enough, so that Pillow may decode it smaller.

    Raises:
      ValueError: values are negative, NaN or infinite; or the largest floating-point number is above 1, but less than a
        sixteenth of 255 or of 65535, so that the range is unclear.
    """
    image.draft(mode, (least, least))
    kind = _kind(image)
    image = ImageOps.exif_transpose(image)
    if kind:
        image = _in_8_bits(image, *kind)
    if image.mode in ("LAB", "La"):  # Pillow converts these to one mode only.
        image = image.convert("RGB" if image.mode == "LAB" else "LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _kind(image: Image.Image) -> tuple[np.dtype, int | None, bool] | None:
    """The NumPy type of an image's values, the value of white (None for floating point), and whether black and white
    are exchanged; None for an image that Pillow reads as 8 bits."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    exchanged = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    if image.mode == "F":
        return np.dtype(np.float32), None, exchanged
    width = 16 if image.mode.startswith("I;16") else {"I": 32, "L": 8}.get(image.mode)
    signed = 2 in tags.get(ExifTags.Base.SampleFormat, (1,)) if tags else image.format == "FITS" or image.mode == "I"
    if width is None or (width == 8 and not (tags and signed)):
        return None
    bits = tags.get(ExifTags.Base.BitsPerSample, (width,))[0] - signed
    if image.format == "PPM":
        bits = 16  # Pillow scales a PGM file's numbers to 16 bits.
    return np.dtype(f"{'i' if signed else 'u'}{width // 8}"), 2**bits - 1, exchanged


def _in_8_bits(image: Image.Image, dtype: np.dtype, white: int | None, exchanged: bool) -> Image.Image:
    values = np.asarray(image)
    values = values.astype(values.dtype.newbyteorder("=")).view(dtype)
    least, largest = values.min(), values.max()
    if not (least >= 0 and np.isfinite(largest)):
        raise ValueError(f"its values are {least} to {largest}; expected none below 0, no NaN and no infinity")
    if white is None:
        white = next((white for white in (1, 255, 65535) if largest <= white), None)
        if white is None or (white > 1 and largest < white / 16):
            raise ValueError(
                f"its largest value is {largest:g}: scale it, so that black is 0 and white is 1, 255 or 65535"
            )
    grey = (values.astype(np.float64) * (255 / white)).round().astype(np.uint8)
    grey = 255 - grey if exchanged else grey
    if isinstance(image.info.get("transparency"), int):
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)
