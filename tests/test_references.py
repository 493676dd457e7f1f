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
from siamjax.network import score_references


class Line:
    """Scores are minus the distance of embeddings of one component."""

    def score_pairs(self, embeddings, pairs):
        return -np.abs(embeddings[pairs[:, 0], 0] - embeddings[pairs[:, 1], 0]).astype(np.float32)


def by_hand(embeddings, references, query, usual):
    """The same as `score_references`, one comparison at a time."""
    found = []
    for of_one, image in zip(references, query, strict=True):
        k = len(of_one)
        table = [[-abs(embeddings[a, 0] - embeddings[b, 0]) if a != b else usual for b in of_one] for a in of_one]
        found.append(np.mean([-abs(embeddings[a, 0] - embeddings[image, 0]) for a in of_one]) + usual - np.mean(table))
        assert np.shape(table) == (k, k)
    return np.array(found)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_score_is_the_mean_one_less_what_the_references_differ_from_what_is_usual(count):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 1))
    references = np.stack([rng.choice(20, count, replace=False) for _ in range(12)])
    references[6:] = references[:6]  # The same sets with other queries.
    query = rng.integers(20, 30, 12)
    scores = score_references(Line(), embeddings, references, query, usual=-0.7)
    np.testing.assert_allclose(scores, by_hand(embeddings, references, query, -0.7), rtol=1e-5)
    if count == 1:
        pairs = np.stack([references[:, 0], query], axis=1)
        np.testing.assert_array_equal(scores, Line().score_pairs(embeddings, pairs))


def test_who_varies_little_is_judged_more_strictly_than_who_varies_much():
    """One writes within 0.1 and is forged at 0.8; the other one within 3, and is forged at 9: no distance fits both."""
    rng = np.random.default_rng(0)
    embeddings, references, query, same = [], [], [], []
    for place, spread, forged in ((0, 0.1, 0.8), (100, 3.0, 9.0)):
        start = len(embeddings)
        embeddings += list(place + rng.uniform(-spread, spread, 25)) + list(place + forged + np.zeros(20))
        references += [np.arange(start, start + 5)] * 40
        query += range(start + 5, start + 45)
        same += [True] * 20 + [False] * 20
    arrays = np.array(embeddings)[:, None], np.array(references), np.array(query)
    scores, same = score_references(Line(), *arrays), np.array(same)
    mean = by_hand(*arrays, 0.0) * 0
    for k in range(5):
        mean += Line().score_pairs(arrays[0], np.stack([arrays[1][:, k], arrays[2]], axis=1)) / 5
    wrong = [np.mean(s[same][:, None] <= s[~same]) for s in (scores, mean)]
    assert wrong[0] < wrong[1] / 2 and wrong[1] > 0.2


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
    expected = score_references(
        network, network.embed(images), np.arange(4)[None], np.array([4]), network.decision.usual
    )
    assert several.score == pytest.approx(float(expected[0]), rel=1e-4)
    assert several.probability == pytest.approx(float(network.decision.probability(several.score)))

    capsys.readouterr()
    assert cli.main(["verify", "omniglot-fast", *map(str, references), str(right), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(several.score, rel=1e-4)
    assert cli.main(["verify", "omniglot-fast", str(drawings / "b"), str(right)]) == 1
    assert "different" in capsys.readouterr().out
    with pytest.raises(ValueError, match="expected one image or more"):
        network.verify([], right)


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
    with pytest.raises(ValueError, match="2 references: .* evaluate its run again"):
        same.verify(pair, drawings / "a" / "2.png")
