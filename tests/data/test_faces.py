"""Photographs cropped to their faces: where eyes come, which face it is, what is said if there is none."""

import importlib.util
import io
import json
import zipfile

import numpy as np
import photographs
import pytest
from PIL import Image, ImageDraw

from siamjax import cli, data
from siamjax.data import detection, faces, folder, images
from siamjax.run import settings

_SKIP = "faces are not found without the package mtcnn: pip install 'siamjax[faces]'"


@pytest.fixture
def detector():
    """Skips a test that needs the real weights."""
    if importlib.util.find_spec("mtcnn") is None:
        pytest.skip(_SKIP)


@pytest.fixture
def half(monkeypatch):
    """In place of the networks: finds one upright face, in the middle half of every photograph that is not black."""
    monkeypatch.setattr(detection, "detect", photographs.middle_face)


@pytest.fixture
def no_extra(monkeypatch):
    find, absent = importlib.util.find_spec, {"mtcnn"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    detection._weights.cache_clear()
    yield
    detection._weights.cache_clear()


def dotted(turn, width, middle, side=400):
    """A photograph with dots where a face of this width, turned by `turn` degrees, has eyes, nose and mouth."""
    z = np.array([0.34 + 0.42j, 0.66 + 0.42j, 0.5 + 0.61j, 0.36 + 0.765j, 0.64 + 0.765j]) - (0.5 + 0.5j)
    z = z * width * np.exp(1j * np.radians(turn)) + complex(*middle)
    image = Image.new("RGB", (side, side), (40, 40, 40))
    for x, y in zip(z.real, z.imag, strict=True):
        corners = np.array([x, y, x, y]) + width / 40 * np.array([-1, -1, 1, 1]) - 0.5  # numbers of pixels, not edges
        ImageDraw.Draw(image).ellipse(corners.tolist(), fill="red")
    box = np.array([*(np.array(middle) - width / 2), *(np.array(middle) + width / 2)])
    return np.asarray(image), detection.Face(box, np.stack([z.real, z.imag], axis=1), 0.99)


@pytest.mark.parametrize(
    ("turn", "width", "middle"), [(0, 120, (200, 200)), (25, 300, (190, 215)), (-40, 110, (90, 290))]
)
def test_eyes_nose_and_mouth_come_to_their_places_whatever_the_photograph(monkeypatch, turn, width, middle):
    image, face = dotted(turn, width, middle)
    monkeypatch.setattr(detection, "detect", lambda image: [face])
    crop = faces.aligned(image, 100)
    assert crop.shape == (100, 100, 3) and crop.dtype == np.uint8
    red = crop[..., 0].astype(int) - crop[..., 1]
    rows, columns = np.mgrid[:100, :100] + 0.5
    for x, y in ((34, 42), (66, 42), (50, 61), (36, 76.5), (64, 76.5)):
        near = np.where(np.hypot(columns - x, rows - y) < 7, red, 0)
        assert near.max() > 100
        np.testing.assert_allclose(
            [(near * columns).sum() / near.sum(), (near * rows).sum() / near.sum()], [x, y], atol=1
        )
    grey = faces.aligned(image[..., :1], 100)
    assert grey.shape == (100, 100, 1) and np.abs(grey[..., 0].astype(int) - crop[..., 0]).max() <= 1


def test_the_largest_face_in_the_middle_is_the_one(monkeypatch):
    image, middle = dotted(0, 120, (200, 200))
    others = [dotted(0, *other)[1] for other in ((60, (205, 200)), (125, (70, 70)), (110, (330, 330)))]
    monkeypatch.setattr(detection, "detect", lambda image: [others[0], others[1], middle, others[2]])
    chosen = faces.aligned(image, 50)
    monkeypatch.setattr(detection, "detect", lambda image: [middle])
    np.testing.assert_array_equal(chosen, faces.aligned(image, 50))


def people(folder, dark=()):
    """Two people with three photographs each, bright in the middle half; those named in `dark` show no face."""
    for name in ("ann/1", "ann/2", "ann/3", "bob/1", "bob/2", "bob/3"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = np.zeros((40, 40), np.uint8) if name in dark else np.pad(np.full((28, 28), 200, np.uint8), 6)
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def test_a_folder_of_photographs_is_cropped_and_one_without_a_face_is_named_or_skipped(tmp_path, half):
    place, config, lines = people(tmp_path / "people"), settings.default().data, []
    config.update(size=16, data_dir=str(tmp_path / "cache"))

    def prepared():
        return folder.prepare(place, folder.preparation(config), lines.append).images

    whole = prepared()[np.arange(6)]
    config.faces = True
    assert whole.min() == 0 and prepared()[np.arange(6)].min() >= 199, "the middle half, of which none is black"
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(place / "bob" / "4.png")
    with pytest.raises(
        ValueError, match=r"1 of 7 images cannot be read: .*bob/4.png: no face found; .*skip_unreadable"
    ):
        prepared()
    config.folder.skip_unreadable = True
    assert len(prepared()) == 6
    assert any("bob/4.png: no face found" in line for line in lines) and "skipped 1 of 7 images" in lines
    config.ink = True
    with pytest.raises(ValueError, match="data.ink and data.faces are both True"):
        prepared()


def test_where_a_protocol_needs_every_photograph_one_without_a_face_is_taken_whole(tmp_path, monkeypatch, capsys):

    def of_light(image):
        return photographs.middle_face(image) if image.getextrema()[0][1] > 20 else []

    monkeypatch.setattr(detection, "detect", of_light)
    content = photographs.cfp()
    lost = next(path for path in content if path.endswith("/003/profile/01.jpg"))
    file = io.BytesIO()
    Image.fromarray(np.pad(np.full((6, 6), 20, np.uint8), 3)).save(file, "png")
    place = photographs.unpacked(tmp_path / "data", content | {lost: file.getvalue()})
    config = photographs.config("cfp", place, tmp_path / "cache", faces=True, protocol="all")
    test = data.load(config, train=False)["test"]
    assert "no face found in 1 of 100 photographs; they are used uncropped" in capsys.readouterr().out
    assert len(test.protocols["cfp_fp"].query) == 40
    row = next(row for row, name in enumerate(test.files) if name.endswith("003/profile/01.jpg"))
    image = test.images[np.array([row])][0]
    assert image[0].max() == 0 and image.max() == 20, "the whole photograph, with its black border"
    place = photographs.unpacked(tmp_path / "damaged", content | {lost: b"none"})
    config = photographs.config("cfp", place, tmp_path / "cache", faces=True, protocol="all")
    with pytest.raises(ValueError, match=r"1 of 100 images cannot be read: .*003/profile/01.jpg") as error:
        data.load(config, train=False)
    assert "skip" not in str(error.value), "which this data set does not do"


def test_crop_keeps_folders_and_names_and_counts_what_has_no_face(tmp_path, half, capsys):
    place, output = people(tmp_path / "people", dark=["bob/2"]), tmp_path / "crops"
    Image.open(place / "ann" / "1.png").save(place / "ann" / "1.bmp")
    assert cli.main(["crop", str(place), "-o", str(output), "--size", "24", "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out) == {"output": str(output), "images": 6, "skipped": 1}
    assert "siamjax crop: " in told.err and "bob/2.png: no face found" in told.err
    written = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    assert written == ["ann/1.bmp.png", "ann/1.png.png", "ann/2.png", "ann/3.png", "bob/1.png", "bob/3.png"]
    with Image.open(output / "ann" / "2.png") as crop:
        assert crop.size == (24, 24) and np.asarray(crop).min() >= 199
    assert cli.main(["crop", str(place), "-o", str(output)]) == 2
    assert "name a new or empty folder for the faces" in capsys.readouterr().err


def test_without_the_extra_the_error_says_what_to_install(tmp_path, no_extra, capsys):
    place = people(tmp_path / "people")
    with pytest.raises(
        ModuleNotFoundError, match=r"cropping photographs to their faces needs mtcnn: pip install 'siamjax.faces"
    ):
        images.read(place / "ann" / "1.png", 16, 1, faces=True)
    assert cli.main(["crop", str(place), "-o", str(tmp_path / "crops")]) == 2
    assert "pip install 'siamjax[faces]'" in capsys.readouterr().err and not (tmp_path / "crops").exists()


def test_eyes_of_real_photographs_come_to_the_same_places_also_when_tilted(photographs_dir, detector):
    with zipfile.ZipFile(photographs_dir / "lfw_128.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][500::2500]
        opened = [Image.open(archive.open(name)).convert("RGB") for name in names]
    for image, turn in zip(opened, [0, 20, -20, 10, -15, 0], strict=False):
        crop = faces.aligned(np.asarray(image.rotate(turn, Image.Resampling.BICUBIC)), 112)
        (face, *_) = detection.detect(Image.fromarray(crop))
        np.testing.assert_allclose(face.landmarks[:2] / 112, [[0.34, 0.42], [0.66, 0.42]], atol=0.06)


def test_a_photograph_without_a_face_has_none(detector):
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    for image in (noise, np.full((50, 80, 1), 200, np.uint8)):
        with pytest.raises(ValueError, match="no face found"):
            faces.aligned(image, 56)
