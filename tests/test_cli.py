"""The command siamjax: exit status, several images, standard input, output, imports."""

import io
import json
import os
import pathlib
import subprocess
import sys
import unicodedata

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from siamjax import cli
from siamjax.cli import overrides
from siamjax.gallery import Gallery
from siamjax.run import Run
from siamjax.run.parts import make_model
from siamjax.training import state
from siamjax.training.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Three people with two images each: noise, almost the same in both."""
    place = tmp_path_factory.mktemp("faces")
    for number, name in enumerate(("ann", "bob", "cid")):
        person = np.random.default_rng(number).uniform(0, 240, (16, 16))
        (place / name).mkdir()
        for shot in range(2):
            Image.fromarray((person + 5 * shot).astype(np.uint8)).save(place / name / f"{shot}.png")
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder of an untrained network, which can distinguish people whose images differ a lot."""
    from configs import default
    from siamjax import parallel

    place = tmp_path_factory.mktemp("run")
    config = default.get_config()
    config.data.update(name="folder", size=16)
    config.encoder.update(name="conv4", width=4, embedding=8, unit_length=True)
    config.head.name = "distance"
    model = make_model(config)
    start = state.create(model, jax.random.key(0), (16, 16, 1), optax.identity())
    checkpoints = Checkpoints(Run(place).checkpoints)
    checkpoints.save("best", parallel.replicate(start), {})
    checkpoints.close()
    (place / "config.json").write_text(config.to_json())
    decision = {"threshold": 0.0, "below": 1.0, "above": 1.0}
    (place / "verification.json").write_text(json.dumps({"decision": decision}))
    return place


@pytest.fixture(scope="module")
def gallery(run, faces, tmp_path_factory):
    place = tmp_path_factory.mktemp("gallery") / "people"
    assert cli.main(["enroll", str(place), "--checkpoint", str(run), *(str(p) for p in faces.glob("*/0.png"))]) == 0
    return place


@pytest.fixture
def damaged(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(b"\x89PNG\r\n")
    return path


def test_verify_returns_its_answer_as_exit_status(run, faces, tmp_path, capsys):
    scores = {}
    for other in ("ann/0.png", "bob/0.png"):
        cli.main(["verify", str(run), str(faces / "ann" / "0.png"), str(faces / other), "--json"])
        scores[other] = json.loads(capsys.readouterr().out)["score"]
    middle = sum(scores.values()) / 2
    assert scores["bob/0.png"] < middle
    saved = json.loads((run / "verification.json").read_text())
    (run / "verification.json").write_text(json.dumps({"decision": saved["decision"] | {"threshold": middle}}))
    for other, status, word in (("ann/0.png", 0, "same"), ("bob/0.png", 1, "different")):
        for flags in ([], ["--json"]):
            assert cli.main(["verify", str(run), str(faces / "ann" / "0.png"), str(faces / other), *flags]) == status
        assert capsys.readouterr().out.startswith(f"{word}: ")
    assert cli.main(["verify", str(run), str(faces / "ann" / "0.png"), str(tmp_path / "none.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as left:
        cli.main(["verify", str(run)])
    assert left.value.code == 2


def test_identify_answers_for_all_readable_images(gallery, faces, damaged, tmp_path, capsys):
    paths = [str(faces / "ann" / "1.png"), str(damaged), str(tmp_path / "none.png"), str(faces / "bob" / "0.png")]
    assert cli.main(["identify", str(gallery), *paths, "-k", "1"]) == 2
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines() if not line.startswith(" ")] == [paths[0], paths[3]]
    assert len(err.splitlines()) == 2 and all(line.startswith("siamjax identify: ") for line in err.splitlines())
    assert "cut.png" in err.splitlines()[0] and "none.png" in err.splitlines()[1]
    assert cli.main(["identify", str(gallery), *paths, "-k", "1", "--json"]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in rows] == paths and ["error" in row for row in rows] == [False, True, True, False]
    assert rows[3]["ranked"][0]["identity"] == "bob"
    assert cli.main(["identify", str(gallery), str(damaged)]) == 2
    assert capsys.readouterr().out == ""


def test_embed_writes_all_readable_images(run, faces, damaged, tmp_path, capsys):
    output = tmp_path / "out.npz"
    assert cli.main(["embed", str(run), str(faces), str(damaged), "-o", str(output), "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {"output": str(output), "images": 6, "components": 8} and "cut.png" in err
    with np.load(output) as file:
        assert len(file["embeddings"]) == len(file["paths"]) == 6
    assert cli.main(["embed", str(run), str(damaged), "-o", str(tmp_path / "none.npz")]) == 2
    assert not (tmp_path / "none.npz").exists()


def _standard_input(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_images_are_passed_as_folders_or_a_list_on_standard_input(gallery, faces, monkeypatch, capsys, end):
    paths = [str(path) for path in sorted(faces.glob("*/*.png"))]
    _standard_input(monkeypatch, b"".join(os.fsencode(path) + end for path in paths[:2]))
    assert cli.main(["identify", str(gallery), "-", str(faces / "bob"), paths[5], "--json"]) == 0
    assert [row["image"] for row in json.loads(capsys.readouterr().out)] == [*paths[:4], paths[5]]
    _standard_input(monkeypatch, b"\n")
    assert cli.main(["identify", str(gallery), "-"]) == 2
    assert "standard input lists no image" in capsys.readouterr().err


def test_pairs_counts_at_the_threshold_and_writes_every_score(run, faces, tmp_path, capsys):
    rows = [("ann/0.png", "ann/0.png", 1), ("ann/0.png", "ann/1.png", 1), ("ann/0.png", "bob/0.png", 0)]
    rows += [("bob/0.png", "cid/0.png", 0), ("cid/0.png", "cid/1.png", 1)]
    table, output = tmp_path / "list.csv", tmp_path / "scores.csv"
    table.write_text("path_a,path_b,same\n" + "".join(f"{a},{b},{same}\n" for a, b, same in rows))
    command = ["pairs", str(run), str(table), "--images", str(faces), "-o", str(output)]
    assert cli.main([*command, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    lines = [line.split(",") for line in output.read_text().splitlines()]
    assert lines[0] == ["path_a", "path_b", "same", "score", "probability", "accepted"]
    assert [line[0].endswith(row[0]) and int(line[2]) == row[2] for line, row in zip(lines[1:], rows, strict=True)]
    accepted = [float(line[3]) > counts["threshold"] for line in lines[1:]]
    assert accepted == [line[5] == "1" for line in lines[1:]]
    same = [row[2] == 1 for row in rows]
    for name, kind, answer in (
        ("true_accepts", True, True),
        ("false_rejects", True, False),
        ("false_accepts", False, True),
        ("true_rejects", False, False),
    ):
        assert counts[name] == sum(a == answer and s == kind for a, s in zip(accepted, same, strict=True))
    assert cli.main(command) == 0
    assert f"{counts['false_accepts']} false accepts" in capsys.readouterr().out


def test_search_writes_no_picture_by_default(gallery, faces, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["search", str(gallery), str(faces / "ann" / "0.png"), "-k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 and not list(tmp_path.iterdir())


def test_every_command_prints_json(gallery, run, faces, tmp_path, capsys):
    image = str(faces / "cid" / "1.png")
    place, out = str(tmp_path / "new"), tmp_path / "out"
    for command, expected in (
        (
            ["enroll", place, "--checkpoint", str(run), image],
            {"added": {"cid": 1}, "holds": {"images": 1, "identities": 1}},
        ),
        (["list", place], {"cid": 1}),
        (["remove", place, "cid"], {"identity": "cid", "removed": 1}),
        (["list", place], {}),
    ):
        assert cli.main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == expected
    assert cli.main(["export", str(run), "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {str(path): path.stat().st_size for path in sorted(out.iterdir())}


def finish(arguments, **options):
    """Runs the command in its own process, from source."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    program = (
        "import sys; from siamjax import cli; code = cli.main(sys.argv[1:]); print(*sorted(sys.modules)); exit(code)"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, **options)


def test_commands_import_only_what_they_need(gallery, run, faces):
    """Imports take most of the time of a command."""
    image = str(faces / "ann" / "0.png")
    trainer = {"siamjax.train", "siamjax.evaluate", "siamjax.report", "siamjax.training.loop", "siamjax.run.recipe"}
    heavy = trainer | {"scipy.stats", "sklearn", "matplotlib", "tensorflow_datasets", "tensorboardX", "torch"}
    done = finish(["verify", str(run), image, image])
    assert done.returncode in (0, 1) and "jax" in done.stdout.split(), done.stderr
    assert not heavy & set(done.stdout.splitlines()[-1].split())
    assert done.stderr == ""  # Not even warnings of Orbax or JAX.
    done = finish(["identify", str(gallery), image])
    assert done.returncode == 0 and not heavy & set(done.stdout.splitlines()[-1].split()), done.stderr
    done = finish(["list", str(gallery)])
    assert done.returncode == 0 and "     1  ann" in done.stdout, done.stderr
    light = heavy | {"jax", "flax", "rich", "absl", "ml_collections", "siamjax.network"}
    assert not light & set(done.stdout.splitlines()[-1].split())
    done = finish(["configs"])
    assert "quickstart " in done.stdout and not light & set(done.stdout.splitlines()[-1].split())
    command = [sys.executable, "-X", "importtime", "-m", "siamjax", "evaluate", str(run)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "siamjax.evaluate" in imported and not {"siamjax.train", "tensorboardX", "torch"} & imported


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["train"], "name a configuration (siamjax configs lists them)"),
        (
            ["train", "quikstart"],
            "quikstart not found; name a run folder, a file of your own, or one of default, faces",
        ),
        (["evaluate", "runs/nosuch"], "evaluate: runs/nosuch not found; name a run folder"),
        (["train", "FOLDER"], "is a folder, but no run folder: it has no config.json"),
        (["evaluate", "quikstart"], "quikstart not found"),
        (["evaluate", "quickstart"], "quickstart has no checkpoint"),
        (["train", "quickstart", "--config.train.stepz=2"], "--config.train.stepz is not a setting; did you mean"),
        (["train", "--config=", "--workdir=new"], "not found"),
        (["train", "--workdir=new", "quickstart"], "unexpected argument 'quickstart'"),
    ],
)
def test_a_training_that_cannot_start_is_one_line(arguments, words, tmp_path):
    arguments = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    done = finish(arguments, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.startswith(f"siamjax {arguments[0]}: ") and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argument,told",
    [
        ("--config.trian.steps=3", "--config.trian.steps is not a setting; did you mean --config.train.steps?"),
        ("--config.wholly.other=3", "--config.wholly.other is not a setting; siamjax/run/settings.py lists all"),
        ("--config.train.stepz=3", "--config.train.stepz is not a setting; did you mean --config.train.steps?"),
        ("--config.train=3", "--config.train is a group of settings; set one of them, such as --config.train.start="),
        ("--config.train.steps", "--config.train.steps has no value: expected a whole number"),
        ("--config.encoder.frozen=maybe", "--config.encoder.frozen=maybe: expected True or False"),
        ("--config.optimizer.adamw.learning_rate=1e-3x", "learning_rate=1e-3x: expected a number, such as"),
    ],
)
def test_a_setting_that_cannot_be_taken_is_told_in_words(argument, told):
    known = ["--config.train.steps=0x10", "--config.data.folder.path=a=b", "--config.train.teacher_share=1"]
    known += ["--config.encoder.frozen", "--noconfig.encoder.frozen", "--config.own.size=3"]
    error = {
        "--config.trian.steps=3": KeyError("'trian'\nDid you mean"),
        "--config.wholly.other=3": KeyError("'wholly'"),
        "--config.train.stepz=3": AttributeError("'stepz'\nDid you mean"),
    }.get(argument, ValueError(f"flag {argument}: ..."))
    assert overrides.fault(known, error) == "" and told in overrides.fault([*known, argument], error)


def test_settings_are_not_blamed_for_a_file_that_fails_for_another_reason():
    for error in (KeyError("HOME"), FileNotFoundError("people.csv not found"), AttributeError("no attribute 'other'")):
        assert overrides.fault(["--config.own.size=3", "--config.own=4"], error) == ""


def test_list_needs_no_network(gallery, run, faces, tmp_path, capsys):
    index = json.loads((gallery / "gallery.json").read_text())
    del index["digest"]
    (tmp_path / "gallery.json").write_text(json.dumps(index | {"run": "/gone"}))
    for path in gallery.glob("*-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert cli.main(["list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ann": 1, "bob": 1, "cid": 1} == Gallery(gallery).identities()


def test_a_closed_pipe_is_no_error(gallery):
    """Such as in `siamjax list GALLERY | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    command = [sys.executable, "-m", "siamjax", "list", str(gallery)]
    with os.fdopen(writing, "w") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")


def test_enroll_names_every_unreadable_file_or_skips_them(run, faces, damaged, tmp_path, capsys):
    good, lost = faces / "ann" / "0.png", tmp_path / "lost.png"
    lost.symlink_to(tmp_path / "nowhere.png")
    paths = list(map(str, (damaged, good, lost)))
    command = ["enroll", str(tmp_path / "new"), "--checkpoint", str(run), *paths]
    assert cli.main(command) == 2
    message = capsys.readouterr().err
    assert "2 of 3 images cannot be read: " in message and "--skip-unreadable" in message
    assert f"{damaged} cannot be read as an image" in message and f"{lost} not found" in message
    assert not (tmp_path / "new" / "gallery.json").exists()
    assert cli.main([*command, "--skip-unreadable"]) == 0
    out, message = capsys.readouterr()
    assert "1 images of 1 identities (ann) added; it holds 1 images" in out
    assert message.count("left out: ") == 2 and str(damaged) in message and str(lost) in message
    assert cli.main([*command, "--skip-unreadable", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["added"] == {"ann": 1} and set(answer["left_out"]) == {str(damaged), str(lost)}
    assert cli.main([*command[:4], str(damaged), "--skip-unreadable"]) == 2
    assert "1 of 1 images cannot be read" in capsys.readouterr().err
    found = Gallery(tmp_path / "new")
    assert found.enroll([good, damaged], ["ann", "bob"], skip_unreadable=True).keys() == {1}
    assert found.identities() == {"ann": 3}
    with pytest.raises(FileNotFoundError, match="1 of 2 images cannot be read: .*lost.png not found"):
        found.enroll([good, lost], ["ann", "ann"])


def test_names_with_accents_in_either_unicode_form_are_one_identity(run, faces, tmp_path, monkeypatch, capsys):
    """Older versions stored names as typed; both forms are found and removed."""
    from siamjax import files

    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    place, image = str(tmp_path / "new"), str(faces / "ann" / "0.png")
    with monkeypatch.context() as older:
        older.setattr(files, "named", str)
        for name in (composed, apart):
            assert cli.main(["enroll", place, "--checkpoint", str(run), "--identity", name, image]) == 0
        assert "it holds 2 images" in capsys.readouterr().out
    capsys.readouterr()
    assert cli.main(["list", place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {composed: 2}
    assert cli.main(["identify", place, image, "--json"]) == 0
    ((ranked,),) = [row["ranked"] for row in json.loads(capsys.readouterr().out)]
    assert ranked["identity"] == composed
    assert cli.main(["enroll", place, "--identity", apart, image]) == 0
    assert cli.main(["remove", place, apart]) == 0
    assert "3 images of" in capsys.readouterr().out.splitlines()[-1]
    assert Gallery(place).identities() == {} and not list((tmp_path / "new" / "thumbnails").iterdir())


def test_folders_with_the_same_name_are_kept_apart(run, faces, tmp_path, monkeypatch, capsys):
    for site, name in (("site1", "bob"), ("site2", "cid")):
        (tmp_path / "people" / site).mkdir(parents=True)
        (tmp_path / "people" / site / "ann").symlink_to(faces / name)
    monkeypatch.chdir(tmp_path / "people")

    def identities(gallery, *arguments):
        assert cli.main(["enroll", str(tmp_path / gallery), "--checkpoint", str(run), *arguments]) == 0
        return set(Gallery(tmp_path / gallery).identities()), capsys.readouterr().err

    apart = {"site1/ann", "site2/ann"}
    assert identities("whole", ".") == (apart, "")
    names, message = identities("files", "site1/ann/0.png", "site2/ann/0.png")
    assert names == apart and "different identities: site1/ann, site2/ann" in message
    assert identities("in_turn", "site1/ann/0.png") == ({"ann"}, "")
    assert identities("in_turn", "site1/ann/1.png") == ({"ann"}, "")
    names, message = identities("in_turn", "site2/ann/1.png")
    assert names == {"ann"} and "ann has images from " in message and "site1/ann, and gets more from " in message
    assert identities("in_turn", "--identity", "ann", "site2/ann/0.png") == ({"ann"}, "")


def test_any_name_can_be_drawn_on_a_contact_sheet(run, faces, tmp_path, capsys):
    """matplotlib typesets text between dollar signs as mathematics."""
    image, sheet = str(faces / "ann" / "0.png"), tmp_path / "sheet.png"
    for name in ("$5_x_y$", r"\frac{", "[/bold]", "100 %"):
        assert cli.main(["enroll", str(tmp_path / "new"), "--checkpoint", str(run), "--identity", name, image]) == 0
    assert cli.main(["search", str(tmp_path / "new"), image, "-o", str(sheet)]) == 0
    assert "$5_x_y$" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.width > 100
