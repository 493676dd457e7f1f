"""An image is compared with several references of one identity, in view of how alike these are."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

import siamjax
from siamjax import cli
from siamjax.data import glyphs
from siamjax.decision import Decision
from siamjax.evaluation import calibration
from siamjax.network import score_references

DECISION = Decision(threshold=-1.0, slope=1.0, even=-1.5, usual=-0.7)


class Line:
    """Scores are minus the distance of embeddings of one component."""

    def score_pairs(self, embeddings, pairs):
        return -np.abs(embeddings[pairs[:, 0], 0] - embeddings[pairs[:, 1], 0]).astype(np.float32)


def by_hand(embeddings, references, query, decision):
    """The same as `score_references`, one comparison at a time."""
    found = []
    for of_one, image in zip(references, query, strict=True):
        mean = np.mean([-abs(embeddings[a, 0] - embeddings[image, 0]) for a in of_one])
        alike = [
            -abs(embeddings[a, 0] - embeddings[b, 0]) if a != b else decision.usual
            for number, a in enumerate(of_one)
            for b in of_one[number + 1 :]
        ]
        share = 1 - 1 / len(of_one)
        found.append(mean + share * (decision.usual - max(np.mean(alike), decision.even)) if alike else mean)
    return np.array(found)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_score_is_the_mean_one_corrected_for_how_alike_the_references_are(count):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 1))
    references = np.stack([rng.choice(20, count, replace=True) for _ in range(12)])
    references[6:] = references[:6]  # The same sets with other queries.
    query = rng.integers(20, 30, 12)
    scores = score_references(Line(), embeddings, references.tolist(), query.tolist(), DECISION)
    np.testing.assert_allclose(scores, by_hand(embeddings, references, query, DECISION), rtol=1e-5)
    if count == 1:
        pairs = np.stack([references[:, 0], query], axis=1)
        np.testing.assert_array_equal(scores, Line().score_pairs(embeddings, pairs))
    assert score_references(Line(), embeddings, references[:0], query[:0], DECISION).shape == (0,)


def test_a_reference_that_is_no_number_makes_the_score_none():
    embeddings = np.array([[0.0], [np.nan], [1.0], [2.0]])
    scores = score_references(Line(), embeddings, [[0, 1, 2], [0, 2, 2]], [3, 3], DECISION)
    assert np.isnan(scores[0]) and np.isfinite(scores[1])


def test_what_is_no_comparison_is_refused():
    embeddings = np.zeros((9, 1))
    for references, query in (([0, 1], [2]), ([[0], [1]], [2]), (np.zeros((2, 0), int), [2, 3])):
        with pytest.raises(ValueError, match=r"expected \[t, k\] and \[t\], k at least 1"):
            score_references(Line(), embeddings, references, query, DECISION)
    with pytest.raises(ValueError, match="2 references: a network with two towers"):
        score_references(Line(), np.zeros((9, 2, 1)), [[0, 1]], [2], DECISION)


def test_who_varies_little_is_judged_more_strictly_than_who_varies_much():
    """One is within 0.1 and imitated at 0.8; the other one is within 3, and imitated at 9: no distance fits both."""
    rng = np.random.default_rng(0)
    embeddings, references, query, same = [], [], [], []
    for place, spread, imitated in ((0, 0.1, 0.8), (100, 3.0, 9.0)):
        start = len(embeddings)
        embeddings += list(place + rng.uniform(-spread, spread, 25)) + list(place + imitated + np.zeros(20))
        references += [np.arange(start, start + 5)] * 40
        query += range(start + 5, start + 45)
        same += [True] * 20 + [False] * 20
    embeddings, references, query, same = (
        np.array(embeddings)[:, None],
        np.array(references),
        np.array(query),
        np.array(same),
    )
    corrected = score_references(Line(), embeddings, references, query, dataclasses.replace(DECISION, even=-9.0))
    pairs = np.stack([references.ravel(), np.repeat(query, 5)], axis=1)
    mean = Line().score_pairs(embeddings, pairs).reshape(-1, 5).mean(axis=1)
    wrong = [np.mean(scores[same][:, None] <= scores[~same]) for scores in (corrected, mean)]
    assert wrong[0] < wrong[1] / 2 and wrong[1] > 0.2


def test_what_same_pairs_usually_score_is_fitted_and_stored():
    scores, same = np.array([3.0, 5.0, -1.0, 0.0], np.float32), np.array([True, True, False, False])
    fitted = calibration.fit(scores, same)
    assert fitted.usual == 4.0 and Decision.read(dataclasses.asdict(fitted)).usual == 4.0
    for wrong in (np.nan, "4"):
        with pytest.raises(ValueError, match="usual=.* must be a finite number"):
            Decision.read(dataclasses.asdict(fitted) | {"usual": wrong})


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Files of four drawings of each of two characters, dark on white."""
    place = tmp_path_factory.mktemp("drawings")
    drawn = glyphs.dataset(jax.random.key(1), alphabets=1, characters=2, drawers=6, size=105)
    for label in (0, 1):
        (place / "ab"[label]).mkdir()
        for number, image in enumerate(drawn.images[drawn.label == label][:, ..., 0]):
            Image.fromarray(255 - image).save(place / "ab"[label] / f"{number}.png")
    return place


def test_verify_takes_several_references_or_a_folder_of_them(drawings, capsys):
    network = siamjax.Network.load("omniglot-fast")
    references, right, wrong = (
        [drawings / "a" / f"{n}.png" for n in (1, 2, 3, 4)],
        *(drawings / which / "0.png" for which in "ab"),
    )
    one, several = network.verify(references[0], right), network.verify(references, right)
    assert network.verify([references[0]], right) == one
    assert several.same and not network.verify(references, wrong).same
    images = network.read([*references, right])
    expected = score_references(network, network.embed(images), [[0, 1, 2, 3]], [4], network.decision)
    assert several.score == pytest.approx(float(expected[0]), rel=1e-4)
    assert several.probability == pytest.approx(float(network.decision.probability(several.score)))

    capsys.readouterr()
    assert cli.main(["verify", "omniglot-fast", *map(str, references), str(right), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(several.score, rel=1e-4)
    assert cli.main(["verify", "omniglot-fast", str(drawings / "b"), str(right)]) == 1
    assert "different" in capsys.readouterr().out
    for wrong, message in (
        ([], "0 references: expected 1 to 100"),
        (references * 30, "120 references: expected 1 to 100"),
        ([*references, references[0]], r"1\.png is twice among the references"),
        ([*references, right], r"0\.png is among the references that it is compared with"),
    ):
        with pytest.raises(ValueError, match=message):
            network.verify(wrong, right)
    assert cli.main(["verify", "omniglot-fast", str(drawings), str(right)]) == 2
    assert "has images of 2 identities (a, b" in capsys.readouterr().err


def test_references_of_several_identities_do_not_make_a_stranger_similar():
    drawn = glyphs.dataset(jax.random.key(2), alphabets=1, characters=15, drawers=2, size=56)
    network = siamjax.Network.load("omniglot-fast", copies=0)
    embeddings = network.embed(drawn.images)
    first = np.array([np.flatnonzero(drawn.label == label)[0] for label in range(15)])
    scores = score_references(network, embeddings, np.tile(first[:10], (5, 1)), first[10:], network.decision)
    assert not network.decision.same(scores).any()


def test_a_network_that_does_not_know_what_is_usual_takes_one_reference(drawings):
    network = siamjax.Network.load("omniglot-fast")
    older = dataclasses.replace(network.decision, usual=None)
    same = siamjax.Network(
        network.model,
        {"encoder": network.variables["encoder"]["params"], "head": network.variables["head"]},
        network.variables["encoder"]["batch_stats"],
        inputs=network.inputs,
        decisions={0: older},
    )
    pair = drawings / "a" / "0.png", drawings / "a" / "1.png"
    assert same.verify(*pair).same
    with pytest.raises(ValueError, match="2 references: .* evaluate the run again"):
        same.verify(pair, drawings / "a" / "2.png")
