"""What is kept of a scan: the strokes, whatever the paper, its light and margins; and what is refused."""

import numpy as np
import photographs
import pytest
from PIL import Image

from siamjax.data import images, ink


def overlap(first, second):
    """Shared ink over all ink, of two images of 0..255."""
    first, second = (image.astype(float) / 255 for image in (first, second))
    return np.minimum(first, second).sum() / np.maximum(first, second).sum()


def read(folder, scan, **options):
    Image.fromarray(scan).save(folder / "scan.png")
    return images.read(folder / "scan.png", 64, 1, ink=True, **options)[..., 0]


@pytest.mark.parametrize(
    ("paper", "light"), [(250, 0), (200, 0), (120, 0), (240, 100), (200, -50)], ids=str
)  # bright, grey, dark; lit from the left or from the right
def test_the_same_strokes_on_other_paper_are_the_same_image(tmp_path, paper, light):
    first = read(tmp_path, photographs.scan(3, 235))
    other = read(tmp_path, photographs.scan(3, paper, seed=5, light=light))
    assert overlap(first, other) > 0.9
    assert overlap(first, read(tmp_path, photographs.scan(4, paper))) < 0.5, "of another signer"


def test_margins_are_cut_off_and_specks_do_not_count(tmp_path):
    scan = photographs.scan(3, 235).repeat(2, 0).repeat(2, 1)
    wide = np.full((340, 360), 235, np.uint8)
    wide[120:280, 60:300] = scan
    wide[3, 4] = wide[330, 340] = 20
    assert overlap(read(tmp_path, scan), read(tmp_path, wide)) > 0.9
    wide[325:330, 345:350] = 20  # a blot, no speck
    assert overlap(read(tmp_path, scan), read(tmp_path, wide)) > 0.9
    found = ink.written(scan)
    assert set(np.unique(found)) == {0, 255}
    assert found.any(axis=1)[[0, -1]].all() and found.any(axis=0)[[0, -1]].all()


def test_only_little_marks_far_from_the_writing_are_no_writing():
    paper = np.full((300, 600), 235, np.uint8)
    paper[100:200, 100:110] = paper[195:205, 100:300] = 20
    written = paper.copy()
    written[88:94, 102:108] = 20  # the dot of an i
    written[100:150, 450:456] = 20  # another letter, far away, not little
    far = written.copy()
    far[285:291, 590:596] = 20
    np.testing.assert_array_equal(ink.written(far), ink.written(written))
    assert ink.written(written).shape == (117, 356)
    apart = np.full((500, 500), 235, np.uint8)
    for row, column in np.ndindex(4, 4):
        apart[60 + 120 * row :, 60 + 120 * column :][:8, :8] = 20
    assert (ink.written(apart)[::120, ::120] == 255).all(), "many parts, none of them large"


def test_paler_ink_is_as_dark(tmp_path):
    scan = photographs.scan(3, 235)
    pale = (235 - 0.4 * (235.0 - scan)).clip(0, 255).astype(np.uint8)
    assert overlap(read(tmp_path, scan), read(tmp_path, pale)) > 0.85


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (np.full((40, 60), 230, np.uint8), "scan.png: it shows no ink"),
        (np.random.default_rng(0).normal(230, 2, (80, 120)).astype(np.uint8), "scan.png: it shows no ink"),
        (255 - photographs.scan(3, 235), "scan.png: it shows light ink.*invert it first"),
        (
            np.where(np.indices((200, 300)) % 6 == 0, 0, 230).max(0).astype(np.uint8),
            "scan.png: it shows no ink, only s",
        ),
    ],
    ids=["blank", "noise", "light on dark", "halftone"],
)
def test_what_is_no_ink_on_paper_is_refused_by_name(tmp_path, scan, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, scan)


def test_otsus_threshold_is_the_best_of_all():
    values = np.concatenate([np.random.default_rng(0).normal(m, 12, n) for m, n in ((60, 300), (150, 2000))])
    values = values.clip(0, 255).astype(np.uint8)

    def within(threshold):
        parts = (values[values <= threshold].astype(float), values[values > threshold].astype(float))
        return sum(len(part) * part.var() for part in parts)

    best = min(range(values.min(), values.max()), key=within)
    assert within(ink.threshold(values)) == pytest.approx(within(best))
