"""A small run with everything that a report shows, made without training."""

import functools
import json
import re

import numpy as np

from siamjax import report
from siamjax.data import Dataset
from siamjax.decision import Decision
from siamjax.evaluation import PairScores, one_shot, verification
from siamjax.run import Run, settings

EVIL = "</script><img src=x onerror=window.harmed=1>"


def faces(identities=12, each=6):
    """Images of one brightness for each identity, and embeddings around the place of each."""
    label = np.arange(identities).repeat(each).astype(np.int32)
    images = np.full((len(label), 20, 16, 1), 0, np.uint8) + (label * 20).astype(np.uint8)[:, None, None, None]
    names = (EVIL, *(f"person {number}" for number in range(1, identities)))
    files = tuple(f"/far/away/{number}/{EVIL if not number else 'a'}-{i}.png" for i, number in enumerate(label))
    group = np.zeros_like(label)
    data = Dataset(images, label, group, np.arange(len(label), dtype=np.int32), ("all",), names, False, files=files)
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(identities, 8))[label] + rng.normal(size=(len(label), 8)) * 0.55
    return data, embeddings


def scored(data, embeddings, count=600):
    every = np.stack(np.triu_indices(len(data), 1), axis=1).astype(np.int32)
    same = data.label[every[:, 0]] == data.label[every[:, 1]]
    different = np.random.default_rng(1).permutation(np.flatnonzero(~same))[: count - same.sum()]
    pairs, same = (part[np.sort(np.append(np.flatnonzero(same), different))] for part in (every, same))
    scores = (3 - np.linalg.norm(embeddings[pairs[:, 0]] - embeddings[pairs[:, 1]], axis=1)).astype(np.float32)
    return PairScores(pairs, same, scores, Decision(0.25, 1.5, 0.25))


@functools.cache
def example():
    """Answers with pairs, trials and a map; the data, pairs, and trials with their scores that they are of."""
    data, embeddings = faces()
    trials = one_shot.between_groups(data, trials=100, ways=12, shots=1, seed=0)
    distance = np.linalg.norm(embeddings[trials.query][:, :, None] - embeddings[trials.support[:, None, :, 0]], axis=-1)
    every = 3 - np.linalg.norm(embeddings[:, None] - embeddings, axis=-1).astype(np.float32)
    near = report.Neighbours(np.arange(len(data)), every)
    pairs = scored(data, embeddings)
    return report.answers(data, pairs, (trials, -distance.astype(np.float32)), near), data, pairs, (trials, -distance)


def a_run(folder, name="run", **changes):
    """A run folder as training and evaluation leave it, without checkpoints."""
    answers, data, pairs, _ = example()
    run, config = Run(folder / name), settings.default()
    config.update_from_flattened_dict(changes)
    run.start(config, {"train": data, "test": data}, "siamjax train quickstart")
    run.metrics.write_text("step,seconds,loss,validation_one_shot\n10,1.5,2.25,\n20,3,1.125,0.75\n")
    right = pairs.decision.same(pairs.scores) == pairs.same
    row = {"accuracy": float(right.mean()), "ci95": [0.7, 0.95], "trials": 600, "seed": 0}
    run.figures.write(config, {"verification": row | {"over": "identities", "units": 12}})
    measured = verification.measures(pairs.scores, pairs.same)
    figures = {"decision": answers["decision"], "test": measured, "step": 20}
    report.write(run, run.figures, figures, answers)
    run.figures.write_verification(figures)
    return run


def data_of(page):
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])["runs"]
