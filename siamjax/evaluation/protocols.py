"""The protocols under which siamese networks are quoted, one after another on one trained model."""

import pathlib
from typing import NamedTuple

import numpy as np

from siamjax import parallel
from siamjax.data.dataset import Dataset
from siamjax.evaluation import calibration, one_shot, result, verification
from siamjax.evaluation.decision import Decision

_MOST_WAYS = 100  # identities in a trial of identification
_REMEDY = (
    "Give identities a second image, or add identities; with images of your own, fewer data.folder.folds give each "
    "part more of them, and another data.folder.fold or data.folder.seed gives it others"
)


def validation_trials(settings, dataset: Dataset, part: str = "validation") -> one_shot.Trials:
    """The one-shot trials by which training is judged; `settings` is the configuration's `evaluation`.

    Within groups; where no group has identities enough that share two sources, among all identities. `part` is what
    messages call the data set.

    Raises:
      TooFewImages: there are not two identities with two images each.
    """
    trials, seed = settings.validation_trials, settings.seed + 1
    try:
        return one_shot.within_group(dataset, trials=trials, ways=settings.ways, seed=seed)
    except one_shot.TooFewImages:
        ways = _ways(dataset, settings.ways)
        try:
            return one_shot.between_groups(dataset, trials=trials, ways=ways, shots=1, seed=seed)
        except one_shot.TooFewImages as error:
            raise one_shot.TooFewImages(f"the {part} data is too small: {error}. {_REMEDY}") from error


def _ways(dataset, most):
    """As many identities as can be asked for, two at least."""
    return max(2, min(most, one_shot.identities_of(dataset, 2)))


class Verified(NamedTuple):
    """Test `pairs` int32 [n, 2] (image numbers), `same` bool [n] and `scores` float32 [n]; the `decision` that was
    fitted on validation pairs."""

    pairs: np.ndarray
    same: np.ndarray
    scores: np.ndarray
    decision: Decision


def draw_pairs(settings, datasets):
    """The pairs of validation and test data to verify; `settings` is the configuration's `evaluation`.

    Raises:
      ValueError: a data set cannot give pairs of both kinds.
    """
    arguments = dict(pairs=settings.pairs, across_groups=settings.across_groups, seed=settings.seed)
    drawn = {}
    for part in (part for part in ("validation", "test") if part in datasets):
        try:
            drawn[part] = verification.draw_pairs(datasets[part], **arguments)
        except ValueError as error:
            reason = str(error).replace("batch.", "evaluation.")
            raise ValueError(f"there are no pairs of the {part} data to verify: {reason}. {_REMEDY}") from error
    return drawn


def verify(settings, datasets, embeddings, scorer, decision: Decision | None = None) -> Verified:
    """Koch's table 1: pairs of the test data, judged by what fits the validation pairs best; arguments as in `run`.

    Where there is no "validation" data, `decision` judges them.
    """
    drawn = draw_pairs(settings, datasets)
    if "validation" in drawn:
        decision = fit(datasets["validation"], drawn["validation"], embeddings["validation"], scorer)
    pairs, same = drawn["test"]
    return Verified(pairs, same, scorer.score_pairs(embeddings["test"], pairs), decision)


def fit(dataset: Dataset, drawn, embeddings: np.ndarray, scorer) -> Decision:
    """What fits the `drawn` pairs of `dataset` best, (pairs, same) as `draw_pairs` gives; `embeddings` float [n, d]."""
    pairs, same = drawn
    return calibration.fit(scorer.score_pairs(embeddings, pairs), same, pairs, dataset.label)


def verification_result(verified: Verified, dataset: Dataset, seed: int):
    """The `Result` of the test pairs of `dataset`, and the intervals of `verification.measures` of them."""
    accepted = verified.decision.same(verified.scores)
    identities = dataset.label[verified.pairs]
    bounds = verification.intervals_of(verified.scores, verified.same, identities, accepted)
    accuracy, count = float(np.mean(accepted == verified.same)), len(verified.same)
    interval = bounds.pop("accuracy")
    return result.Result(accuracy, interval, count, seed, "identities", len(np.unique(identities))), bounds


def run(config, datasets, embeddings, scorer):
    """Runs every protocol of trials that the data allows.

    Args:
      config: the whole configuration; its `evaluation` part says how many trials, and the seed that draws them.
      datasets: "test", and optionally "validation", "few_shot" or "gallery", see `data.load`.
      embeddings: float32 [n, d] of each data set.
      scorer: the trained model's `Scorer`.

    Yields:
      (protocol, `Result`), or (protocol, reason) for one that was skipped.
    """
    settings = config.evaluation

    def outcome(part, draw, **trials):
        if part not in datasets:
            return f"there is no {part} data"
        dataset = datasets[part]
        try:
            drawn = draw(dataset, seed=settings.seed, **trials)
        except one_shot.TooFewImages as error:
            return str(error)
        scores = scorer.score_trials(embeddings[part], drawn)
        # Trials of one alphabet are alike, and so are those about one identity, or with one most similar to it.
        if draw is one_shot.within_group:
            over, unit = "alphabets", dataset.group[drawn.query]
        else:
            rival = np.take_along_axis(drawn.support[:, :, 0], one_shot.rival(scores, drawn.answer), axis=1)
            over, unit = "identities", dataset.label[np.stack([drawn.query, rival], axis=2)]
        return result.of(one_shot.right(scores, drawn.answer), settings.seed, over, unit)

    if config.data.name in ("folder", "tfds"):
        for part in ("validation", "test"):
            ways = _ways(datasets[part], _MOST_WAYS)
            trials = outcome(part, one_shot.between_groups, trials=settings.trials, ways=ways, shots=1)
            yield f"identification_{part}_{ways}way_1shot", trials
        return
    if "gallery" in datasets:
        return  # Whose the queries are is asked of the gallery, see `reidentification.py`.
    within = f"within_alphabet_{settings.ways}way_1shot"
    yield within, outcome("test", one_shot.within_group, trials=settings.trials, ways=settings.ways)
    yield "koch_400_trials", outcome("test", one_shot.within_group, trials=400, ways=20)
    on_omniglot = config.data.name == "omniglot"
    choosing = on_omniglot and config.data.splits == "choose"
    if on_omniglot and config.data.splits == "background":
        yield f"validation_{within}", "the split 'background' trains on its validation alphabets, too"
    elif choosing:
        yield f"validation_{within}", "the split 'choose' tests on its validation alphabets"
    else:
        trials = outcome("validation", one_shot.within_group, trials=settings.trials, ways=settings.ways)
        yield f"validation_{within}", trials
    if on_omniglot and not choosing:
        from siamjax.data.omniglot import RUN_ALPHABETS  # It brings TFDS, which takes its time to import.

        trials = dict(trials=settings.trials, ways=settings.ways, among=RUN_ALPHABETS)
        yield f"run_alphabets_{settings.ways}way_1shot", outcome("test", one_shot.within_group, **trials)
        yield "official_runs", _official_runs(config, scorer)
    part = "few_shot" if "few_shot" in datasets else "test"
    for ways in (10,) if config.data.name == "mnist" else (5, 20):
        for shots in (1, 5):
            name = f"between_{ways}way_{shots}shot"
            yield name, outcome(part, one_shot.between_groups, trials=settings.trials, ways=ways, shots=shots)


def _official_runs(config, scorer):
    from siamjax.evaluation import official_runs  # It brings TFDS, which takes its time to import.

    cache = pathlib.Path(config.data.data_dir or "~/tensorflow_datasets").expanduser() / "downloads" / "omniglot"
    try:
        # Of several processes, all must know of the archive, or none.
        images, trials = parallel.from_main(
            lambda: official_runs.load(official_runs.find(config.data.manual_dir, cache), config.data.size)
        )
    except (FileNotFoundError, ValueError) as error:
        return str(error)  # The other figures do not depend on this archive.
    scores = scorer.score_trials(scorer.embed(images, "embedding official runs"), trials)
    right = one_shot.right(scores, trials.answer)
    return result.of(right, None, "runs", np.indices(right.shape)[0])
