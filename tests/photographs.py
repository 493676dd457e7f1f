"""Made-up data sets in the layouts of CFP, LFW and CEDAR, tiny images in folders or zip files; and images by a card."""

import io
import pathlib
import zipfile

import numpy as np
from PIL import Image, ImageOps

from siamjax.data import detection
from siamjax.run import settings


def picture(person, number, size=12):
    """A pattern that is of the person, with a brightness that is of the number."""
    pattern = np.random.default_rng(person).integers(0, 200, (size, size), np.uint8)
    return encoded(pattern + np.uint8(5 * number % 50))


def encoded(pixels, kind="png", **options):
    """The content of an image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def cfp(root="cfp-dataset/", images="Data/Images/", people=2, frontal=3):
    """{path: content} of ten folds of `people`, with `frontal` and two profile images each."""
    files, listed = {}, {"frontal": [], "profile": []}
    for person in range(1, 10 * people + 1):
        for side, count in (("frontal", frontal), ("profile", 2)):
            for number in range(1, count + 1):
                path = f"Images/{person:03d}/{side}/{number:02d}.jpg"
                listed[side].append(f"{len(listed[side]) + 1} ../Data/{path}")
                files[f"{root}{images.removesuffix('Images/')}{path}"] = picture(person, number)
    files[f"{root}Protocol/Pair_list_F.txt"] = "\n".join(listed["frontal"]).encode()
    files[f"{root}Protocol/Pair_list_P.txt"] = "\r\n".join(listed["profile"]).encode()
    for fold in range(10):
        first = [frontal * (fold * people + n) + 1 for n in range(people)]
        side = [2 * (fold * people + n) + 1 for n in range(people)]
        for protocol, same, different in (
            ("FF", [(f, f + 1) for f in first], [(first[0], first[1] + 1), (first[1], first[0] + 1)]),
            ("FP", list(zip(first, side, strict=True)), [(first[0], side[1]), (first[1], side[0] + 1)]),
        ):
            for kind, pairs in (("same", same), ("diff", different)):
                lines = "".join(f"{a},{b}\n" for a, b in pairs)
                files[f"{root}Protocol/Split/{protocol}/{fold + 1:02d}/{kind}.txt"] = lines.encode()
    return files


def lfw(root="lfw-deepfunneled/", people=40):
    """{path: content}: ten folds of four people with two images each, a fifth who is in no pair, and View 1."""
    files = {}
    for person in range(people + 1):
        for number in (1, 2):
            files[f"{root}P{person}/P{person}_{number:04d}.jpg"] = picture(person, number)
    lines = ["10\t2"]
    for fold in range(10):
        a, b, c, d = (f"P{4 * fold + n}" for n in range(4))
        lines += [f"{a}\t1\t2", f"{b}\t1\t2", f"{c}\t1\t{d}\t2", f"{a}\t2\t{d}\t1"]
    files["pairs.txt"] = "\n".join(lines).encode()
    for part, first in (("Train", 0), ("Test", 20)):
        match = [f"P{first + n},1,2" for n in range(20)]
        mismatch = [f"P{first + n},1,P{first + (n + 1) % 20},2" for n in range(20)]
        files[f"matchpairsDev{part}.csv"] = "\n".join(["name,imagenum1,imagenum2", *match]).encode()
        files[f"mismatchpairsDev{part}.csv"] = "\n".join(["name,imagenum1,name,imagenum2", *mismatch]).encode()
    return files


def scan(signer, paper, seed=0, light=0, size=(80, 120)):
    """A scan uint8 [h, w]: the strokes of the signer, on paper of this grey, lit from one side by `light`."""
    rng = np.random.default_rng(seed)
    image = np.full(size, paper, np.float64) + rng.normal(0, 1.5, size) - light * np.linspace(0, 1, size[1])
    stroke = np.random.default_rng(signer)
    x = np.linspace(15, 100, 400)
    y = 40 + 8 * np.sin(x / stroke.uniform(3, 9)) + 8 * np.sin(x / stroke.uniform(9, 20))
    for shift in (0, 1):
        image[y.astype(int) + shift, x.astype(int)] *= 0.35
    return image.clip(0, 255).astype(np.uint8)


def cedar(root="signatures/", signers=15, genuine=8, forged=6):
    """{path: content} in the published layout: two folders, of which the forgeries have darker paper."""
    files = {}
    for signer in range(1, signers + 1):
        for kind, folder, count, paper in (
            ("original", "full_org", genuine, 235),
            ("forgeries", "full_forg", forged, 205),
        ):
            for number in range(1, count + 1):
                content = encoded(scan(signer + 100 * (kind == "forgeries"), paper, number))
                files[f"{root}{folder}/{kind}_{signer}_{number}.png"] = content
    return files


def unpacked(folder: pathlib.Path, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: pathlib.Path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def config(name, place, cache, size=12, **changed):
    """The `data` part of a configuration."""
    data = settings.default().data
    data.name, data.manual_dir, data.data_dir, data.size = name, str(place), str(cache), size
    data.update_from_flattened_dict(changed)
    return data


def middle_face(image):
    """In place of `detection.detect`: an upright face in the middle half of every photograph that is not black."""
    if max(high for _, high in image.getextrema()) == 0:
        return []
    corner, half = np.array(image.size) / 4, np.array(image.size) / 2
    places = np.array([[0.34, 0.42], [0.66, 0.42], [0.5, 0.61], [0.36, 0.765], [0.64, 0.765]])
    return [detection.Face(np.concatenate([corner, corner + half]), corner + places * half, 0.99)]


def made_by_card(path, card):
    """An image made as the card of an export describes; it is already upright and opaque."""
    resize, size = card["resize"], tuple(card["resize"]["size"])
    with Image.open(path) as image:
        image.draft(*card["draft"])
        image = image.convert("L")
    if card["inverted"]:
        image = ImageOps.invert(image)
    assert resize["function"] == "ImageOps.pad" and resize["larger"] == "either side is larger than that of `size`"
    larger = any(side > most for side, most in zip(image.size, size, strict=True))
    resampling = Image.Resampling[resize["filter_of_larger" if larger else "filter_of_others"]]
    return np.asarray(ImageOps.pad(image, size, resampling))[..., None]
