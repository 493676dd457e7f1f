"""The page of a run: its numbers are those of the files, names do no harm, and what is missing is said."""

import base64
import dataclasses
import html.parser
import io
import json
import pathlib
import shutil
import subprocess
import types
import zipfile

import numpy as np
import pytest
from PIL import Image
from reporting import EVIL, a_run, data_of, example, faces, scored

import siamjax
from siamjax import cli, report
from siamjax.data import Dataset
from siamjax.decision import Decision
from siamjax.evaluation import PairScores, one_shot, verification
from siamjax.run import settings

ROOT = pathlib.Path(__file__).parents[1]


def counts(pairs, threshold):
    accepted = pairs.scores.astype(np.float64) > threshold
    return int(np.sum(accepted & ~pairs.same)), int(np.sum(~accepted & pairs.same))


def test_the_mistakes_at_every_threshold_are_counted_exactly():
    answers, _, pairs, _ = example()
    table = answers["table"]
    found = list(zip(table["false_accepts"], table["false_rejects"], strict=True))
    assert found == [counts(pairs, threshold) for threshold in table["threshold"]]
    assert found[0] == (np.sum(~pairs.same), 0) and found[-1] == (0, np.sum(pairs.same))
    rows = {point["name"]: point["row"] for point in answers["points"]}
    assert table["threshold"][rows["threshold of the run"]] == 0.25
    measured = verification.measures(pairs.scores, pairs.same)
    accepts, rejects = found[rows["FAR 0.01"]]
    assert accepts / np.sum(~pairs.same) <= 0.01
    assert 1 - rejects / np.sum(pairs.same) == pytest.approx(measured["tar_at_far_0.01"], abs=1e-12)
    accepts, rejects = found[rows["EER"]]
    assert accepts / np.sum(~pairs.same) == pytest.approx(measured["eer"], abs=0.01)
    assert rejects / np.sum(pairs.same) == pytest.approx(measured["eer"], abs=0.01)


@pytest.mark.parametrize("kind", [False, True])
def test_a_pair_that_scores_the_threshold_is_different(kind):
    data, embeddings = faces()
    pairs = scored(data, embeddings)
    at = float(np.sort(pairs.scores[pairs.same == kind])[40])
    answers = report.answers(data, dataclasses.replace(pairs, decision=Decision(at, 1.0, at)))
    row = answers["points"][0]["row"]
    assert answers["table"]["threshold"][row] == at
    assert (answers["table"]["false_accepts"][row], answers["table"]["false_rejects"][row]) == counts(pairs, at)


def test_a_pair_that_was_drawn_twice_is_shown_once():
    data, embeddings = faces()
    pairs = scored(data, embeddings)
    twice = {name: np.concatenate([getattr(pairs, name)] * 2) for name in ("pairs", "same", "scores")}
    twice["pairs"][600:] = twice["pairs"][600:, ::-1]
    answers = report.answers(data, PairScores(**twice, decision=pairs.decision))
    shown = [tuple(sorted(pair[:2])) for pair in answers["shown"]]
    assert len(shown) == len(set(shown)) > 50 and answers["pairs"]["same"] == 2 * pairs.same.sum()


def test_many_pairs_keep_the_page_small_and_the_operating_points_exact():
    rng, same = np.random.default_rng(0), np.arange(60_000) % 2 == 0
    scores = (rng.normal(size=len(same)) + 2 * same).astype(np.float32)
    data, _ = faces()
    numbers = rng.integers(len(data), size=(len(same), 2))
    pairs = PairScores(numbers, same, scores, Decision(1.0, 1.0, 1.0))
    answers = report.answers(data, pairs)
    table = answers["table"]
    assert len(table["threshold"]) < 2500 and len(answers["shown"]) < 400
    for point in answers["points"]:
        row = point["row"]
        expected = counts(pairs, table["threshold"][row])
        assert (table["false_accepts"][row], table["false_rejects"][row]) == expected
        if point["name"].startswith("FAR"):
            rate = point["name"].split()[1]
            measured = verification.measures(scores, same)[f"tar_at_far_{rate}"]
            assert 1 - expected[1] / 30_000 == pytest.approx(measured, abs=1e-12)


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js, which runs the page's functions here, is not installed")
def test_the_page_counts_as_numpy_does():
    answers, _, pairs, _ = example()
    program = (
        (ROOT / "siamjax/report/page/counts.js").read_text()
        + """
const answers = JSON.parse(require("fs").readFileSync(0));
const rows = answers.table.threshold.map((_, row) => countsOf(answers.table, row, answers.pairs));
const told = answers.shown.map((pair) => judged(pair, answers.decision.threshold).kind);
const probability = answers.shown.map((pair) => probabilityOf(answers.decision, pair[3]));
const {least, most, ...older} = answers.decision;
const unbounded = probabilityOf(older, older.even + 50 / older.slope);
console.log(JSON.stringify({rows, told, probability, unbounded}));
"""
    )
    done = subprocess.run(
        ["node", "-e", program], input=json.dumps(answers), capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(done.stdout)
    for row in found["rows"]:
        accepts, rejects = counts(pairs, row["threshold"])
        assert (row["falseAccepts"], row["falseRejects"]) == (accepts, rejects)
        assert row["trueAccepts"] == np.sum(pairs.same) - rejects
        assert row["accuracy"] == pytest.approx(1 - (accepts + rejects) / 600, abs=1e-12)
    score = np.array([pair[3] for pair in answers["shown"]])
    np.testing.assert_allclose(found["probability"], pairs.decision.probability(score), rtol=1e-9)
    assert found["unbounded"] == pytest.approx(1)  # Of a page that an older version made.
    accepts, rejects = counts(pairs, 0.25)
    # All mistakes are among the shown pairs here, as they are few.
    assert (found["told"].count("false accept"), found["told"].count("false reject")) == (accepts, rejects)


def test_shown_answers_are_those_of_the_data():
    answers, data, pairs, (trials, scores) = example()
    every = {
        (data.files[a], data.files[b]): (bool(same), float(score))
        for (a, b), same, score in zip(pairs.pairs, pairs.same, pairs.scores, strict=True)
    }
    for first, second, same, score in answers["shown"]:
        names = tuple(f"/far/away/{answers['files'][place]}" for place in (first, second))
        assert every[names] == (same, pytest.approx(score, rel=1e-8))
    right = one_shot.right(scores, trials.answer)
    shown = answers["trials"]
    assert (shown["count"], shown["wrong"]) == (100, np.sum(~right))
    assert sum(row["rank"] > 0 for row in shown["rows"]) == min(40, shown["wrong"])
    for row in shown["rows"]:
        place = min(row["rank"], len(row["ranked"]) - 1)
        assert answers["names"][row["ranked"][place]] == answers["names"][row["query"]]
        assert row["scores"] == sorted(row["scores"], reverse=True)


def test_a_tie_is_a_mistake():
    trials = one_shot.Trials(np.array([[[0], [6], [12]]]), np.array([[1]]), np.array([[0]]))
    data, embeddings = faces()
    answers = report.answers(data, scored(data, embeddings), (trials, np.float32([[[1, 1, 0]]])))
    assert answers["trials"]["wrong"] == 1 and answers["trials"]["rows"][0]["rank"] == 1


def test_thumbnails_show_their_images():
    answers, data, _, _ = example()
    sheet = answers["sheet"]
    with Image.open(io.BytesIO(base64.b64decode(sheet["data"].partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("L")).astype(int)
    for place, name in enumerate(answers["names"]):
        top, left = place // sheet["columns"] * sheet["height"], place % sheet["columns"] * sheet["width"]
        middle = pixels[top + sheet["height"] // 2, left + sheet["width"] // 2]
        assert abs(middle - 20 * data.names.index(name)) <= 6, name


def test_the_largest_page_has_less_than_five_megabytes():
    label = np.arange(100, dtype=np.int32).repeat(20)
    images = np.random.default_rng(0).integers(0, 255, (len(label), 48, 48, 3), np.uint8)  # Noise is the worst.
    data, numbers = Dataset(images, label, label * 0, label, ("all",)), np.arange(2000).reshape(-1, 2)
    scores = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    pairs = PairScores(numbers, np.arange(1000) % 2 == 0, scores, Decision(0.0, 1.0, 0.0))
    near = report.Neighbours(np.arange(1000), np.eye(1000, dtype=np.float32)[label[:1000]])
    answers = report.answers(data, pairs, None, near)
    assert len(answers["names"]) > 1000 and len(json.dumps(answers)) < 5_000_000


def test_the_map_puts_an_identity_together():
    answers, data, _, _ = example()
    place = np.stack([answers["map"]["x"], answers["map"]["y"]], axis=1)
    assert len(place) == len(data) and place.min() == 0 and place.max() == 1000
    distance = np.linalg.norm(place[:, None] - place, axis=-1) + 1e9 * np.eye(len(place))
    identity = np.array(answers["map"]["identity"])
    assert np.mean(identity[distance.argmin(axis=1)] == identity) > 0.8


def test_a_map_has_whole_identities_of_at_most_1000_images():
    label = np.arange(60, dtype=np.int32).repeat(30)
    network = types.SimpleNamespace(towers=1, score_all=lambda a, b: a @ b.T)
    subject = types.SimpleNamespace(
        network=network,
        datasets={"test": types.SimpleNamespace(label=label)},
        embeddings={"test": np.ones((len(label), 2), np.float32)},
    )
    near = report.neighbours(subject)
    _, images = np.unique(label[near.numbers], return_counts=True)
    assert 950 < len(near.numbers) <= 1000 and set(images) == {16} and near.scores.shape == (len(near.numbers),) * 2
    network.towers = 2
    assert report.neighbours(subject) is None


class Tags(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_names_do_no_harm_and_arrive_as_they_are(tmp_path):
    run = a_run(tmp_path, name="<b>&[[script]]")
    page = (run.folder / "report" / "index.html").read_text()
    tags = Tags(page).found
    assert [tag for tag, _ in tags].count("script") == 2 and not {"img", "b"} & {tag for tag, _ in tags}
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    (content,) = data_of(page)
    assert EVIL in content["answers"]["names"] and content["name"] == "<b>&[[script]]"
    assert any(EVIL.replace("/", "") in file.replace("/", "") for file in content["answers"]["files"])
    assert not any("far" in file for file in content["answers"]["files"])  # Nor where the folder is.
    (policy,) = (each["content"] for tag, each in tags if each.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_the_page_says_what_the_files_say(tmp_path):
    run = a_run(tmp_path, **{"encoder.width": 7})
    (content,) = data_of((run.folder / "report" / "index.html").read_text())
    assert content["results"] == json.loads((run.folder / "results.json").read_text())
    saved = json.loads((run.folder / "verification.json").read_text())
    assert content["verification"] == {name: value for name, value in saved.items() if name != "digest"}
    assert content["curves"]["loss"] == [[10, 20], [2.25, 1.125]]
    assert content["curves"]["validation_one_shot"] == [[20], [0.75]]
    assert ["encoder.width", settings.default().encoder.width, 7] in content["settings"]
    trained = content["trained"]
    assert (trained["command"], trained["seconds"], trained["steps"]) == ("siamjax train quickstart", 3, 20)
    assert trained["version"] == siamjax.__version__ and trained["sizes"]["train"] == [72, 12]
    assert content["missing"] == []


def test_a_page_is_written_again_from_itself(tmp_path, capsys):
    run = a_run(tmp_path)
    page = run.folder / "report" / "index.html"
    before = page.read_bytes()
    assert cli.main(["report", str(run.folder)]) == 0
    assert page.read_bytes() == before and capsys.readouterr().err == ""
    results = json.loads((run.folder / "results.json").read_text())
    results["verification"]["accuracy"] = 0.5  # As if evaluated by another version, which wrote no page.
    (run.folder / "results.json").write_text(json.dumps(results))
    assert cli.main(["report", str(run.folder), "-o", str(tmp_path / "other.html")]) == 0
    (content,) = data_of((tmp_path / "other.html").read_text())
    assert content["answers"] is None and content["results"]["verification"]["accuracy"] == 0.5
    assert "no evaluation has stored them (siamjax evaluate" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "<html>", '<script type="application/json" id="data">{"runs": 3}</script>'])
def test_a_damaged_page_is_replaced(tmp_path, damage):
    run = a_run(tmp_path)
    page = run.folder / "report" / "index.html"
    page.write_text(damage)
    assert cli.main(["report", str(run.folder)]) == 0
    assert data_of(page.read_text())[0]["answers"] is None


def test_damaged_files_that_only_the_page_shows_do_not_stop_it(tmp_path, capsys):
    run = a_run(tmp_path)
    run.metrics.write_text("step,loss\n10,many\n")
    (run.folder / "started.json").write_text("{")
    assert cli.main(["report", str(run.folder)]) == 0
    told = capsys.readouterr().err
    assert "metrics.csv, line 2 is damaged" in told and "the command and the date" in told


def test_runs_are_compared(tmp_path, capsys):
    first, second = a_run(tmp_path), a_run(tmp_path, "other", **{"encoder.width": 7})
    shutil.copytree(second.folder / "report", second.folder / "evaluations" / "mine" / "report")
    for name in ("results.json", "results_config.json", "verification.json"):
        shutil.copy(second.folder / name, second.folder / "evaluations" / "mine" / name)
    runs = [str(first.folder), str(second.folder), str(second.folder / "evaluations" / "mine")]
    assert cli.main(["report", *runs]) == 2
    assert "3 runs to compare: name the file to write, such as -o comparison.html" in capsys.readouterr().err
    assert cli.main(["report", *runs, "-o", str(tmp_path / "all.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == [[], [], []]
    contents = data_of((tmp_path / "all.html").read_text())
    assert [(each["name"], each["evaluation"]) for each in contents] == [("run", ""), ("other", ""), ("other", "mine")]
    assert all(each["answers"] for each in contents) and contents[2]["all_settings"]["encoder.width"] == 7


@pytest.mark.parametrize("date", sorted(path.stem for path in (ROOT / "tests" / "older").glob("*.zip")))
def test_an_older_run_has_a_page_that_says_what_it_lacks(date, tmp_path, capsys):
    with zipfile.ZipFile(ROOT / "tests" / "older" / f"{date}.zip") as file:
        file.extractall(tmp_path)
    assert cli.main(["report", str(tmp_path / "run")]) == 0
    (content,) = data_of((tmp_path / "run" / "report" / "index.html").read_text())
    assert content["results"] == json.loads((tmp_path / "run" / "results.json").read_text())
    assert content["answers"] is None and content["curves"]["loss"][0]
    told = capsys.readouterr().err
    assert "without answers" in told and "without the command and the date" in told


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "config.json not found; pass the folder of a run" in capsys.readouterr().err


def test_inputs_that_are_no_images_are_named_only():
    data, embeddings = faces()
    data = Dataset(embeddings.astype(np.float32), data.label, data.group, data.source, ("all",))
    answers = report.answers(data, scored(data, embeddings))
    assert answers["sheet"] is None and answers["trials"] is None and answers["map"] is None
    assert answers["files"] == [] and answers["names"][0].startswith("identity ")
