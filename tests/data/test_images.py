"""Image files as arrays: resizing, rotation, scaling of each number type, and the errors."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from siamjax.data import images

_RAMP = np.arange(16, dtype=np.float64)[None].repeat(16, 0) / 15  # 0 on the left, 1 on the right
_GREY = (_RAMP * 255).round().astype(np.uint8)


def picture(seed=0, shape=(20, 30)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path, image=None, **options):
    image = picture() if image is None else image
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def tiff(path, data, bits, sample_format=1, photometric=1, shape=(16, 16), samples=1):
    """A little-endian TIFF file with `data`, bytes, in one strip."""
    entries = [
        (256, 3, shape[1]),
        (257, 3, shape[0]),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, samples),
        (278, 3, shape[0]),
        (279, 4, len(data)),
        (339, 3, sample_format),
    ]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHIHH" if kind == 3 else "<HHII", tag, kind, 1, value, *[0] * (kind == 3))
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4))
    return path


def packed_12_bits(values):
    first, second = values.reshape(-1, 2).astype(np.uint16).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


def test_the_whole_image_is_kept_in_its_aspect_ratio(tmp_path):
    wide = np.full((10, 40), 200, np.uint8)
    got = images.read(save(tmp_path / "wide.png", wide), 20, 1)[..., 0]
    np.testing.assert_array_equal(got[8:12], 200)
    assert got[:7].max() == got[13:].max() == 0
    white = images.read(save(tmp_path / "ink.png", 255 - wide), 20, 1, invert=True)
    np.testing.assert_array_equal(white[..., 0], got)


def test_images_fill_a_wide_or_high_rectangle_as_far_as_their_aspect_ratio_allows(tmp_path):
    """A signature in a square would have a fraction of its pixels."""
    wide = save(tmp_path / "wide.png", np.full((10, 40), 200, np.uint8))
    np.testing.assert_array_equal(images.read(wide, (5, 20), 1), np.full((5, 20, 1), 200))
    got = images.read(wide, (20, 30), 3)
    assert got.shape == (20, 30, 3)
    np.testing.assert_array_equal(got[6:14], 200)
    assert got[:6].max() == got[14:].max() == 0
    high = save(tmp_path / "high.png", np.full((40, 10), 200, np.uint8))
    got = images.read(high, (20, 30), 1)[..., 0]
    assert got[:, 12:17].min() == 200 and got[:, :12].max() == got[:, 17:].max() == 0


def test_sides_are_rounded_as_pillow_does_for_programs_without_siamjax(tmp_path):
    for columns, rows, height, width in ((29, 56, 28, 28), (56, 29, 28, 28), (29, 56, 28, 90), (21, 20, 29, 30)):
        path = save(tmp_path / "odd.png", picture(4, (rows, columns)))
        kind = Image.Resampling.BOX if columns > width or rows > height else Image.Resampling.BILINEAR
        expected = np.asarray(ImageOps.pad(Image.open(path), (width, height), kind))
        np.testing.assert_array_equal(images.read(path, (height, width), 1)[..., 0], expected)
    assert images.read(save(tmp_path / "thin.png", picture(4, (500, 3))), 28, 1).any()


def test_images_of_every_kind_become_the_same_pixels(tmp_path):
    grey = np.kron(picture(3, (8, 8)) & 0xF0, np.ones((2, 2), np.uint8))
    image, colour = Image.fromarray(grey), np.stack([grey, 255 - grey, grey // 2], axis=2)
    expected, in_colour = grey[..., None], colour
    for name, saved in {
        "l.png": image,
        "l.pgm": image,
        "l.bmp": image,
        "rgb.png": image.convert("RGB"),
        "palette.png": image.convert("P"),
        "sixteen.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "cmyk.tif": Image.merge("CMYK", [*[image.point(lambda v: 255 - v)] * 3, Image.new("L", (16, 16), 0)]),
        "alpha.png": Image.merge("LA", [image, Image.new("L", (16, 16), 255)]),
        "float.tif": Image.fromarray(grey.astype(np.float32)),
    }.items():
        got = images.read(save(tmp_path / name, saved), 16, 1)
        np.testing.assert_allclose(got.astype(int), expected, atol=1, err_msg=name)
    np.testing.assert_array_equal(images.read(save(tmp_path / "colour.png", colour), 16, 3), in_colour)
    clear = Image.merge("LA", [image, Image.new("L", (16, 16), 0)])
    np.testing.assert_array_equal(images.read(save(tmp_path / "clear.png", clear), 16, 1), 255)
    dot = images.read(save(tmp_path / "dot.png", np.full((1, 1), 7, np.uint8)), 16, 1)
    np.testing.assert_array_equal(dot, 7)


def test_a_photograph_taken_sideways_is_rotated(tmp_path):
    image = picture(1, (16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    save(tmp_path / "turned.png", np.rot90(image), exif=exif)
    np.testing.assert_array_equal(images.read(tmp_path / "turned.png", 16, 1)[..., 0], image)


def test_an_image_with_more_pixels_than_is_safe_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        ValueError,
        match="huge.png cannot be read as an image: it has 600 pixels, expected at most 200: make it smaller",
    ):
        images.read(path, 16, 1)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_numbers_in_a_tiff_are_scaled_by_their_type(tmp_path, kind, white_is_zero):
    dtype = np.dtype(kind)
    white = 1 if dtype.kind == "f" else np.iinfo(dtype).max
    values = (_RAMP * white).astype(dtype) if dtype.kind == "f" else (_RAMP * white).round().astype(dtype)
    sample_format = {"u": 1, "i": 2, "f": 3}[dtype.kind]
    path = tiff(tmp_path / "a.tif", values.tobytes(), 8 * dtype.itemsize, sample_format, 0 if white_is_zero else 1)
    if white_is_zero and kind in ("int8", "int16", "uint32", "int32"):  # Pillow does not read them.
        with pytest.raises(ValueError, match="a.tif cannot be read as an image"):
            images.read(path, 16, 1)
    else:
        expected = 255 - _GREY if white_is_zero else _GREY
        np.testing.assert_allclose(images.read(path, 16, 1)[..., 0].astype(int), expected, atol=1)


def test_other_ways_to_write_more_than_8_bits(tmp_path):
    sixteen = (_RAMP * 65535).round().astype(np.uint16)
    files = [
        tiff(tmp_path / "12.tif", packed_12_bits((_RAMP * 4095).round()), 12),
        save(tmp_path / "a.png", sixteen),
        save(tmp_path / "a.pgm", sixteen),
        save(tmp_path / "packed.tif", sixteen, compression="tiff_lzw"),
        save(tmp_path / "a.pfm", _RAMP.astype(np.float32)),
        save(tmp_path / "255.tif", (_RAMP * 255).astype(np.float32)),
        save(tmp_path / "65535.tif", (_RAMP * 65535).astype(np.float32)),
        tmp_path / "plain.pgm",
    ]
    numbers = " ".join(str(value) for value in (_RAMP * 1023).round().astype(int).ravel())
    (tmp_path / "plain.pgm").write_text(f"P2 16 16 1023 {numbers}\n")
    if features.check("jpg_2000"):
        files.append(save(tmp_path / "a.jp2", sixteen, irreversible=False))
    for path in files:
        for channels in (1, 3):
            got = images.read(path, 16, channels).astype(int)
            np.testing.assert_allclose(got, np.broadcast_to(_GREY[..., None], got.shape), atol=1, err_msg=path.name)
    clear = save(tmp_path / "clear.png", sixteen, transparency=0)
    np.testing.assert_array_equal(images.read(clear, 16, 1)[:, 0], 255)


def test_a_dark_frame_of_a_wide_type_stays_dark(tmp_path):
    """The scale must not depend on the values of a single image."""
    dark = np.full((16, 16), 200, np.uint16)
    assert images.read(save(tmp_path / "dark.png", dark), 16, 1).max() == 1
    assert images.read(tiff(tmp_path / "a.tif", dark.astype(np.int16).tobytes(), 16, 2), 16, 1).max() == 2


@pytest.mark.parametrize(
    "values,message",
    [
        ([-0.1, 0.5], "its values are -0.1.* to 0.5; expected none below 0"),
        ([0.2, np.nan], "nan"),
        ([0.2, np.inf], "inf"),
        ([0.0, 1.02], "its largest value is 1.02: scale it"),
        ([0.0, 256.5], "its largest value is 256.5: scale it"),
        ([0.0, 70000.0], "its largest value is 70000: scale it"),
        ([-5, 300], "its values are -5 to 300; expected none below 0"),
    ],
)
def test_values_that_cannot_be_interpreted_are_refused(tmp_path, values, message):
    values = np.array(values)
    path = save(tmp_path / "odd.tif", values.astype(np.float32 if values.dtype.kind == "f" else np.int32)[None])
    with pytest.raises(ValueError, match=f"odd.tif cannot be read as an image: .*{message}"):
        images.read(path, 16, 1)


@pytest.mark.parametrize("mode", ["LAB", "La", "RGBa", "YCbCr", "1", "PA"])
def test_modes_that_pillow_converts_in_steps_are_read_in_grey_and_colour(tmp_path, mode):
    if mode == "LAB":
        lightness = Image.fromarray(_GREY)
        path = save(tmp_path / "a.tif", Image.merge("LAB", [lightness, *[Image.new("L", (16, 16), 128)] * 2]))
        expected, tolerance = _GREY, 20  # L* follows the eye; about the gamma of sRGB
    elif mode in ("La", "RGBa"):
        opaque = Image.merge("LA", [Image.fromarray(_GREY), Image.new("L", (16, 16), 255)])
        bands = np.asarray(opaque if mode == "La" else opaque.convert("RGBA"))
        path = tmp_path / "a.tif"
        save(path, Image.fromarray(bands, "LA" if mode == "La" else "RGBA"))
        content = path.read_bytes()
        extra = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
        assert extra in content
        path.write_bytes(content.replace(extra, struct.pack("<HHIHH", 338, 3, 1, 1, 0)))
        expected, tolerance = _GREY, 1
    else:
        path = save(tmp_path / "a.tif", Image.fromarray(_GREY).convert("L" if mode == "PA" else mode))
        expected, tolerance = np.asarray(Image.fromarray(_GREY).convert(mode if mode == "1" else "L").convert("L")), 1
    for channels in (1, 3):
        got = images.read(path, 16, channels).astype(int)
        np.testing.assert_allclose(got, np.broadcast_to(expected[..., None], got.shape), atol=tolerance)


@pytest.mark.parametrize("shape", [(1, 200), (200, 1), (3, 1000), (1, 33)])
def test_a_strip_keeps_a_pixel_of_width(tmp_path, shape):
    got = images.read(save(tmp_path / "strip.png", np.full(shape, 200, np.uint8)), 16, 1)[..., 0]
    assert (got == 200).sum() == 16 and got.sum() == 16 * 200


def test_heic_and_avif_are_read_if_pillow_can(tmp_path):
    if features.check("avif"):
        got = images.read(save(tmp_path / "a.avif", Image.fromarray(_GREY), quality=95), 16, 1)
        np.testing.assert_allclose(got[..., 0].astype(int), _GREY, atol=8)
        assert ".avif" in images.endings()
    pillow_heif = pytest.importorskip("pillow_heif")
    heif = pillow_heif.from_pillow(Image.fromarray(_GREY).convert("RGB"))
    heif.save(tmp_path / "a.heic", quality=95)
    np.testing.assert_allclose(images.read(tmp_path / "a.heic", 16, 1)[..., 0].astype(int), _GREY, atol=8)
    assert ".heic" in images.endings()


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "it is empty"), (b"to do: photos", "it is no image of a known format")]
)
def test_a_file_that_is_no_image_is_told_why(tmp_path, content, told):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.png cannot be read as an image: {told}$"):
        images.read(tmp_path / "a.png", 16, 1)


def test_an_image_too_large_for_pillow_is_refused_by_the_same_words(tmp_path):
    chunks = struct.pack(">4sIIBBBBB", b"IHDR", 20_000, 20_000, 1, 0, 0, 0, 0), b"IDAT"
    content = [struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))
    told = "a.png cannot be read as an image: it has 400,000,000 pixels, expected at most {}: make it smaller$"
    with pytest.raises(ValueError, match=told.format("50,000,000")):
        images.read(tmp_path / "a.png", 16, 1)
    with pytest.raises(ValueError, match=told.format("[1-3][0-9,]*")):  # Never what Pillow itself does not open.
        images.read(tmp_path / "a.png", 16, 1, pixels=10**9)


def test_the_error_on_unreadable_heic_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_register_plugin", lambda: False)
    (tmp_path / "a.HEIC").write_bytes(bytes(100))
    with pytest.raises(
        ValueError, match="a.HEIC cannot be read as an image; to read HEIC: pip install 'siamjax.heic.'"
    ):
        images.read(tmp_path / "a.HEIC", 16, 1)
