"""Image files as arrays: upright, in 8 bits, and resized to fit into a rectangle."""

import concurrent.futures
import contextlib
import functools
import os
import re
import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from siamjax import extras, files
from siamjax.data import faces as face_crops
from siamjax.data.ink import written
from siamjax.files import shown

PIXELS = 50_000_000  # the most that are decoded of an image, and of all images at a time; four or eight bytes each
_FACES = 8  # sides of a crop that a photograph is decoded at, so that a small face in it has enough pixels
_SEARCHED = 400  # pixels per side at which faces are looked for, at least
_INK = 1000  # pixels per side at which ink is told from paper, at least
_STRIP = 2**20  # pixels that are converted at a time
_BIG = 2**24  # bytes of a file from which on it is read alone: some decoders read all of it first
_alone = threading.Lock()
# Memory of larger blocks goes back to the system when it is freed; each thread would keep its own for later.
Image.core.set_block_size(2**26)
# Of damaged tags in files that are readable; and of files with more than `PIXELS`, which are refused.
warnings.filterwarnings("ignore", module=r"PIL\.")

# What Pillow decodes by itself, and within the size that the file states: it would start Ghostscript for EPS.
_FORMATS = [
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "DIB",
    "PPM",
    "TIFF",
    "WEBP",
    "AVIF",
    "JPEG2000",
    "TGA",
    "PCX",
    "SGI",
    "QOI",
    "FITS",
]
_PLUGIN_FORMAT = "HEIF"
_PLUGIN_ENDINGS = (".heic", ".heif", ".hif")  # read by the package pillow-heif


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
    return frozenset(
        ending for ending, kind in Image.registered_extensions().items() if kind in (*_FORMATS, _PLUGIN_FORMAT)
    )


def hint(missing: Collection[str]) -> str:
    """The end of an error message: what to install for files with one of the endings `missing`, or ""."""
    return f"; to read HEIC: {extras.remedy('pillow_heif')}" if set(_PLUGIN_ENDINGS).intersection(missing) else ""


def read(
    path: str | os.PathLike,
    size: int | tuple[int, int],
    channels: int,
    invert: bool = False,
    file: BinaryIO | None = None,
    pixels: int = PIXELS,
    ink: bool = False,
    faces: bool = False,
    middle: tuple[int, int] | None = None,
) -> np.ndarray:
    """An image file as uint8 [height, width, channels]: the whole image, in its aspect ratio, centred on black.

    It is rotated according to its EXIF data; transparent parts become white; other types become 8 bits, see `upright`.

    Args:
      path: the file, of any kind in `endings`, by its content.
      size: height and width in pixels; or the side of a square.
      channels: 1 for grey, 3 for colour.
      invert: for dark ink on white paper, so that paper is black like the border.
      file: its content, if it is open already.
      pixels: see `upright`.
      ink: keep only what is written: ink is 255, paper 0, and margins are cut off; see `ink.written`. `invert` changes
        nothing then.
      faces: crop the photograph's face, see `faces.aligned`; not with `ink`.
      middle: (side, part): of images of side × side pixels, only the middle part × part is used; not with `faces`.

    Raises:
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: `faces`, and the extra `faces` is not installed.
      ValueError: see `upright`, `ink.written` and `faces.aligned`.
    """
    rows, columns = sides(size)
    enough = least(size, ink, faces, middle)
    mode = "L" if channels == 1 else "RGB"
    with upright(path, "RGB" if faces else "L" if ink else mode, enough, file, pixels) as image:
        if faces:
            image = _face(path, image, min(rows, columns)).convert(mode)  # Faces are found in grey images less often.
        elif middle and image.size == (middle[0], middle[0]):
            image = ImageOps.crop(image, (middle[0] - middle[1]) // 2)
        if ink:
            image = _ink(path, image, enough).convert(mode)
        elif invert:
            image = ImageOps.invert(image)
        width, height = _fitted(image, columns, rows)
        larger = image.width > columns or image.height > rows
        resized = image.resize((width, height), Image.Resampling.BOX if larger else Image.Resampling.BILINEAR)
    whole = Image.new(resized.mode, (columns, rows))
    whole.paste(resized, (round((columns - width) / 2), round((rows - height) / 2)))
    return np.asarray(whole, np.uint8).reshape(rows, columns, channels)


def _fitted(image, columns, rows):
    """Width and height of an image that fills a rectangle in its aspect ratio, rounded as `ImageOps.pad` does."""
    if image.width * rows > image.height * columns:
        return columns, max(1, round(image.height / image.width * columns))
    return max(1, round(image.width / image.height * rows)), rows


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of images of this size, see `read`."""
    return (size, size) if isinstance(size, int) else size


def least(size: int | tuple[int, int], ink: bool, faces: bool, middle: tuple[int, int] | None = None) -> int:
    """Pixels per side that an image is decoded at, if it has as many: enough for a crop of it, too; see `read`."""
    longest = max(sides(size))
    if faces:
        return max(_FACES * longest, _SEARCHED)
    # One more than the side whose middle is used: no larger file is decoded at that side.
    return max(2 * longest, _INK if ink else 0, middle[0] + 1 if middle else 0)


def _ink(path, image, most):
    """The ink of a grey image, whose sides have at most `most` pixels."""
    image.thumbnail((most, most), Image.Resampling.BOX)
    try:
        return Image.fromarray(written(np.asarray(image)))
    except ValueError as error:
        raise ValueError(f"{shown(path)}: {error}") from error


def _face(path, image, size):
    try:
        return Image.fromarray(face_crops.aligned(np.asarray(image), size))
    except face_crops.NoFaceError as error:
        raise face_crops.NoFaceError(f"{shown(path)}: {error}") from error


def read_all(
    paths: Sequence[str | os.PathLike[str]],
    size: int | tuple[int, int],
    channels: int,
    invert: bool = False,
    ink: bool = False,
    faces: bool = False,
) -> np.ndarray:
    """n image files, read in parallel: uint8 [n, height, width, channels]; n may be 0. For the rest, see `read`."""

    def read_one(path):
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{shown(path)} not found, or not a file")
        return read(path, size, channels, invert, ink=ink, faces=faces)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        pixels = list(pool.map(read_one, paths))
    return np.stack(pixels) if pixels else np.zeros((0, *sides(size), channels), np.uint8)


def refusal(unreadable: list[str], count: int, skip: str | None) -> str:
    """An error message on the `unreadable` among `count` images, by their own messages, ten at most; `skip`: the option
    that skips them, None where all are needed."""
    more = f"; and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
    remedy = f". Fix or remove them, or skip them with {skip}" if skip and len(unreadable) < count else ""
    return f"{len(unreadable)} of {count} images cannot be read: {'; '.join(unreadable[:10])}{more}{remedy}"


@contextlib.contextmanager
def upright(
    path: str | os.PathLike, mode: str, least: int, file: BinaryIO | None = None, pixels: int = PIXELS
) -> Iterator[Image.Image]:
    """An image file in 8 bits, rotated according to its EXIF data; transparent parts become white.

    Integers are scaled by their type: 0 is black, and the largest value of the type white (4095 for 12 bits, 32767 for
    int16). Floating-point numbers are in 0..1 if none exceeds 1, else in 0..255 or 0..65535, whichever is the first to
    include them all.

    Large images wait for one another: with many threads, too, memory holds `PIXELS` at a time.

    Args:
      path: the file, a regular one.
      mode: "L" or "RGB".
      least: pixels per side that are enough, so that a JPEG is decoded smaller.
      file: its content, if it is open already.
      pixels: the most that are decoded; a progressive JPEG is decoded whole.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a regular file, not an image or of another format, damaged or too large; values are
        negative, NaN or infinite; or the largest floating-point number is above 1, but less than a sixteenth of 255 or
        of 65535, so that the range is unclear.
    """
    with contextlib.ExitStack() as stack:
        file = file or stack.enter_context(files.opened(path))
        try:
            bytes_ = file.seek(0, os.SEEK_END)
            if not bytes_:
                raise ValueError("it is empty")
            if bytes_ > 8 * pixels:
                raise ValueError(f"it has {bytes_:,} bytes; expected at most {8 * pixels:,}")
            if bytes_ > _BIG:
                stack.enter_context(_alone)
            image = _opened(file)  # Not entered: the stack would keep all of it until the end.
            stack.enter_context(_reserved(_drafted(image, mode, least, pixels)))
            image = _converted(image, mode)
        except Exception as error:  # Whatever a damaged file makes Pillow's decoders raise.
            raise ValueError(f"{shown(path)} cannot be read as an image{_reason(error, path, pixels)}") from error
        yield image


def _reason(error: Exception, path: str | os.PathLike, pixels: int) -> str:
    """Why an image cannot be read, as the end of an error message."""
    if isinstance(error, UnidentifiedImageError):
        return hint({os.path.splitext(path)[1].lower()}) or ": it is no image of a known format"
    found = re.search(r"\d+", str(error))
    if isinstance(error, Image.DecompressionBombError) and found:  # Pillow's own limit, which our users do not know.
        most = min(pixels, 2 * (Image.MAX_IMAGE_PIXELS or pixels))
        return f": {_too_large(int(found[0]), most)}"
    return f": {shown(error) or type(error).__name__}"


def _too_large(count: int, most: int) -> str:
    return f"it has {count:,} pixels, expected at most {most:,}: make it smaller"


def _opened(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        # The package takes 0.2 s to import: it is imported only for files that Pillow alone cannot read.
        if not _register_plugin():
            raise
        return Image.open(file, formats=[_PLUGIN_FORMAT])


def _drafted(image: Image.Image, mode: str, least: int, pixels: int) -> int:
    """Has a JPEG decoded no larger than needed. The number of pixels that decoding takes; ValueError above `pixels`."""
    whole = image.width * image.height
    image.draft(mode, (least, least))
    count = whole if image.info.get("progressive") else image.width * image.height
    if not count:
        raise ValueError("it has no pixels")
    if count > pixels:
        raise ValueError(_too_large(count, pixels))
    if any(tile[0] == "fits_gzip" for tile in getattr(image, "tile", ())):
        raise ValueError("it is compressed FITS, whose size is not known beforehand: decompress it")
    return count


_room, _taken = threading.Condition(), [0]


@contextlib.contextmanager
def _reserved(pixels: int) -> Iterator[None]:
    """Waits until images of at most `PIXELS` are decoded at once, or this one alone."""
    with _room:
        _room.wait_for(lambda: not _taken[0] or _taken[0] + pixels <= PIXELS)
        _taken[0] += pixels
    try:
        yield
    finally:
        with _room:
            _taken[0] -= pixels
            _room.notify_all()


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """An opened image, decoded, upright and in `mode`: strip by strip, so that it is not copied as a whole."""
    kind = _kind(image)
    ImageOps.exif_transpose(image, in_place=True)
    white = _white(image, kind) if kind else None
    if image.width * image.height <= _STRIP:
        return _strip(image, kind, white, mode)
    done = Image.new(mode, image.size)
    for box in _strips(image):
        done.paste(_strip(image.crop(box), kind, white, mode), box[:2])
    return done


def _strip(
    image: Image.Image, kind: tuple[np.dtype, int | None, bool] | None, white: float | None, mode: str
) -> Image.Image:
    if kind:
        image = _in_8_bits(image, kind, white)
    if image.mode in ("LAB", "La"):  # Pillow converts these to one mode only.
        image = image.convert("RGB" if image.mode == "LAB" else "LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    width, height = image.size
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


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


def _values(image: Image.Image, dtype: np.dtype) -> np.ndarray:
    values = np.asarray(image)
    return values.astype(values.dtype.newbyteorder("=")).view(dtype)


def _white(image: Image.Image, kind: tuple[np.dtype, int | None, bool]) -> float:
    """The value of white in an image of more than 8 bits; raises ValueError if it is unclear, see `upright`."""
    dtype, white, _ = kind
    parts = (_values(image.crop(box), dtype) for box in _strips(image))
    extremes = np.array([[part.min(), part.max()] for part in parts])
    least, largest = extremes.min(), extremes.max()
    if not (least >= 0 and np.isfinite(largest)):
        raise ValueError(f"its values are {least} to {largest}; expected none below 0, no NaN and no infinity")
    if white is None:
        white = next((white for white in (1, 255, 65535) if largest <= white), None)
        if white is None or (white > 1 and largest < white / 16):
            raise ValueError(
                f"its largest value is {largest:g}: scale it, so that black is 0 and white is 1, 255 or 65535"
            )
    return white


def _in_8_bits(image: Image.Image, kind: tuple[np.dtype, int | None, bool], white: float | None) -> Image.Image:
    dtype, _, exchanged = kind
    values = _values(image, dtype)
    assert white is not None
    grey = (values.astype(np.float64) * (255 / white)).round().astype(np.uint8)
    grey = 255 - grey if exchanged else grey
    if isinstance(image.info.get("transparency"), int):
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)
