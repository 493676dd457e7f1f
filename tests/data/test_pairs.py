"""A list of pairs to train on."""

import re

import numpy as np
import PIL.Image
import pytest

from siamjax import data
from siamjax.evaluation import drawn
from siamjax.run import Run, settings
from siamjax.train import train


def listed(folder, people=24, images=4):
    """Images whose brightness tells the person; each is paired with the next of the person, and with another person."""
    rng, rows = np.random.default_rng(0), []
    for person in range(people):
        for number in range(images):
            stripes = 128 + 100 * np.sin(np.outer(np.arange(16), np.ones(16)) * (person + 3) / 7 + rng.normal() * 0.1)
            PIL.Image.fromarray(stripes.astype(np.uint8)).save(folder / f"{person}-{number}.png")
            rows.append(f"{person}-{number}.png,{person}-{(number + 1) % images}.png,1")
            rows += [f"{person}-{number}.png,{(person + k) % people}-{number}.png,0" for k in range(1, people)]
    (folder / "pairs.csv").write_text("path_a,path_b,same\n" + "\n".join(rows))
    config = settings.default()
    config.data.name, config.data.pairs.path, config.data.size = "pairs", str(folder / "pairs.csv"), 16
    config.data.data_dir = str(folder / "cache")
    return config


def test_pairs_connect_images_to_identities_that_are_in_one_part(tmp_path):
    config = listed(tmp_path)
    parts = data.load(config.data)
    assert sum(part.label.max() + 1 for part in parts.values()) == 24
    for part in parts.values():
        (pairs, same), label = part.pairs, part.label
        np.testing.assert_array_equal(label[pairs[:, 0]] == label[pairs[:, 1]], same)
        assert len(part) == 4 * (label.max() + 1) and same.sum() == len(part)
    for part, (pairs, _) in drawn.pairs(config.evaluation, parts).items():
        np.testing.assert_array_equal(pairs, parts[part].pairs[0])


def test_a_network_learns_from_listed_pairs(tmp_path, capsys):
    config = listed(tmp_path)
    config.batch.mode, config.loss.name, config.augment.name = "pairs", "contrastive", "none"
    config.batch.pairs, config.encoder.name, config.encoder.embedding = 32, "mlp", 16
    config.train.steps = config.train.validate_every = 60
    train(config, tmp_path / "run")
    assert Run(tmp_path / "run").figures.results["verification"]["accuracy"] > 0.7
    assert "step 60, the last checkpoint, on pairs.csv" in capsys.readouterr().out  # There is no accuracy to be best.


def test_all_images_of_a_person_whom_lfws_list_names_are_in_one_part(tmp_path):
    """Image 1 of each person is in different pairs only."""
    config = listed(tmp_path, people=12)
    for person in range(12):
        (tmp_path / f"P{person}").mkdir()
        for number in range(4):
            (tmp_path / f"{person}-{number}.png").rename(tmp_path / f"P{person}" / f"P{person}_{number:04d}.jpg")
    same = [f"P{person} {number} {number + 1}" for person in range(12) for number in (2,)] * 11
    different = [f"P{a} {b % 4} P{b} 1" for a in range(12) for b in range(12) if a != b]
    (tmp_path / "pairs.txt").write_text("\n".join(["132", *same, *different]))
    config.data.pairs.path = str(tmp_path / "pairs.txt")
    parts = data.load(config.data)
    people = [set(part.names) for part in parts.values()]
    assert sorted(name for part in people for name in part) == sorted(f"P{person}" for person in range(12))
    assert sum(len(part) for part in parts.values()) == 48


def test_another_list_is_evaluated_unless_its_images_were_trained_on(tmp_path):
    """Names of identities are those of images, whose numbers differ between lists."""
    (tmp_path / "one").mkdir()
    config, run = listed(tmp_path / "one", people=12), Run(tmp_path / "run")
    run.folder.mkdir()
    parts = data.load(config.data)
    run.start(config, parts)
    assert all(name.endswith("-0.png") for name in run.identities["train"])
    (tmp_path / "two").mkdir()
    other = listed(tmp_path / "two", people=12)
    for path in (tmp_path / "two").glob("*.png"):
        path.rename(path.with_name(f"new-{path.name}"))
    text = (tmp_path / "two" / "pairs.csv").read_text()
    (tmp_path / "two" / "pairs.csv").write_text(re.sub(r"(\d+-\d\.png)", r"new-\1", text))
    run.check_identities(data.load(other.data, train=False))
    config.data.folder.fold = 2
    with pytest.raises(ValueError, match=r"identities of the (test|validation) data were trained on"):
        run.check_identities(data.load(config.data, train=False))


def test_mistakes_are_named(tmp_path):
    config = listed(tmp_path, people=12)
    with pytest.raises(ValueError, match=r"batch\.mode='pairs'"):
        train(config, tmp_path / "run")
    config.batch.mode = "pairs"
    for name, value in (("variants", 2), ("turns", 4)):
        config.data[name] = value
        with pytest.raises(ValueError, match=rf"data\.{name}={value} .*set data\.{name}=1"):
            train(config, tmp_path / "run")
        config.data[name] = 1
    (tmp_path / "pairs.csv").write_text("path_a,path_b,same\n0-0.png,0-1.png,1\n")
    with pytest.raises(ValueError, match=r"data\.folder\.folds=5 parts need 10 identities"):
        data.load(config.data)
    (tmp_path / "pairs.csv").write_text("path_a,path_b,same\n0-0.png,0-1.png,1\n0-1.png,0-2.png,1\n0-2.png,0-0.png,0\n")
    with pytest.raises(
        ValueError, match=r"says that .*0-2.png and .*0-0.png are of different identity, but other lines"
    ):
        data.load(config.data)
    config.data.pairs.path = ""
    with pytest.raises(ValueError, match=r"data\.pairs\.path is empty"):
        data.load(config.data)
