"""A whole run: configuration and run folder -> trained checkpoints, figures and pictures."""

import dataclasses
import functools
import json
import os
import pathlib

import jax
import ml_collections

from siamjax import augment, data, encoders, heads, optimizer, parallel, report, sampling
from siamjax.choices import choose
from siamjax.data import glyphs
from siamjax.evaluation import one_shot, protocols
from siamjax.evaluation.scorer import Scorer
from siamjax.training import loop, objectives, state
from siamjax.training.checkpoint import Checkpoints
from siamjax.training.metrics import MetricsLog
from siamjax.training.step import TrainingData, train_step

# May differ when a run goes on: where the data lies says nothing about what it is.
_PLACES = ("data_dir", "manual_dir")


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path):
    """Trains as `config` says, or goes on where an earlier call was cut off, then evaluates the best checkpoint.

    Args:
      config: see configs/default.py.
      workdir: the run folder; created if need be.

    Raises:
      ValueError: the configuration or the data does not fit, or `workdir` holds a run of another configuration.
    """
    _check(config)
    _check_same_run(config, workdir)
    datasets = data.load(config.data)
    for dataset in datasets.values():
        image_shape = dataset.images.shape[1:]
    training, sample, fetch = _training_data(config, datasets)
    model, optimizer_ = _model(config)
    _write_json(workdir / "config.json", json.loads(config.to_json()))
    step = functools.partial(
        train_step,
        model=model,
        sample=sample,
        fetch=fetch,
        augment=_augment(config.augment),
        objective=_objective(config.batch, model.head),
        optimizer=optimizer_,
    )
    key = jax.random.key(config.seed)
    start = state.create(model, jax.random.fold_in(key, 1), image_shape, optimizer_)
    checkpoints = Checkpoints(workdir)
    restored, progress = checkpoints.restore("latest", start) or (start, loop.NEW_RUN)
    log = MetricsLog(workdir, after=int(restored.step))
    trials = protocols.validation_trials(config.evaluation, datasets["validation"])

    def validate(replicated):
        host = parallel.first((replicated.params, replicated.batch_stats))
        scorer = Scorer(model, *host)
        scores = scorer.score_trials(scorer.embed(datasets["validation"].images), trials)
        return float(one_shot.right(scores, trials.answer).mean())

    try:
        loop.train(
            parallel.pmap(step, donate=(0,)),
            parallel.replicate(restored),
            parallel.replicate(training),
            parallel.replicate(jax.random.fold_in(key, 2)),
            config=config.train,
            images=_batch_images(config.batch),
            validate=validate,
            checkpoints=checkpoints,
            log=log,
            progress=progress,
        )
    finally:
        checkpoints.close()
        log.close()
    report.curves(workdir)
    evaluate(config, workdir, datasets)


def evaluate(config: ml_collections.ConfigDict, workdir: pathlib.Path, datasets=None):
    """Evaluates the best checkpoint in `workdir` on validation and test data; writes results.json and pictures.

    Args:
      config: see configs/default.py; its encoder and head must be those that were trained.
      workdir: a run folder.
      datasets: what `data.load(config.data)` gives, if it is at hand.

    Raises:
      FileNotFoundError: `workdir` holds no checkpoint.
    """
    datasets = datasets or data.load(config.data, train=False)
    model, optimizer_ = _model(config)
    like = jax.eval_shape(lambda: state.create(model, jax.random.key(0), datasets["test"].images.shape[1:], optimizer_))
    checkpoints = Checkpoints(workdir)
    restored = checkpoints.restore("best", like)
    checkpoints.close()
    if restored is None:
        raise FileNotFoundError(
            f"{workdir} holds no checkpoint; train one with --workdir {workdir}, or name another folder"
        )
    scorer = Scorer(model, restored[0].params, restored[0].batch_stats)
    embeddings = {
        part: scorer.embed(datasets[part].images, f"embedding {part}") for part in datasets if part != "train"
    }
    results = {}
    for name, outcome in protocols.run(config, datasets, embeddings, scorer):
        if isinstance(outcome, str):
            report.note(f"{name}: skipped, {outcome}")
        else:
            results[name] = dataclasses.asdict(outcome)
    _write_json(workdir / "results.json", results)
    report.table(results, f"{workdir}: step {int(restored[0].step)}, best on validation")
    trials = protocols.validation_trials(config.evaluation, datasets["test"])
    report.trials(workdir, datasets["test"], trials, scorer.score_trials(embeddings["test"], trials))


def _check(config):
    parallel.check_divisible(_batch_images(config.batch), "batch: images a step")


def _batch_images(batch):
    return choose(
        "batch.mode", batch.mode, {"pairs": 2 * batch.pairs, "all_pairs": batch.identities * batch.per_identity}
    )


def _check_same_run(config, workdir):
    path = workdir / "config.json"
    if not path.exists():
        return
    saved, asked = _flat(json.loads(path.read_text())), _flat(json.loads(config.to_json()))
    changed = [key for key in sorted({**saved, **asked}) if saved.get(key) != asked.get(key)]
    changed = [key for key in changed if key.split(".")[-1] not in _PLACES and not key.startswith("evaluation.")]
    if changed:
        values = "; ".join(f"{key} was {saved.get(key)}, now {asked.get(key)}" for key in changed)
        raise ValueError(f"{path} is of another run: {values}. Use a new --workdir, or go on with the same values")


def _flat(tree, prefix=""):
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


def _model(config):
    encoder = encoders.make(**config.encoder, axis_name=parallel.AXIS)
    steps = config.train.steps
    return state.Model(encoder, heads.make(**config.head)), optimizer.make(
        config.optimizer, config.train.epoch_steps, steps
    )


def _training_data(config, datasets):
    """What lies on the devices, and how a batch is chosen from it and fetched."""
    if config.data.name == "glyphs":
        world = config.data.glyphs
        index = sampling.grid_index(world.alphabets, world.characters, world.drawers)
        return TrainingData(index=index), _sampler(config.batch, index), _draw_glyphs(world, config.data.size)
    dataset = datasets["train"]
    index = sampling.make_index(dataset)
    return TrainingData(index=index, images=dataset.images), _sampler(config.batch, index), _take_images


def _sampler(batch, index):
    if batch.mode == "pairs":
        sampling.check_pairs(index, batch.across_groups)
        return functools.partial(sampling.pairs, count=batch.pairs, across_groups=batch.across_groups)
    sampling.check_identities(index, batch.identities, batch.per_identity, batch.per_group)
    return functools.partial(
        sampling.identities, count=batch.identities, per_identity=batch.per_identity, per_group=batch.per_group
    )


def _take_images(key, training, item):
    return training.images[item]


def _draw_glyphs(world, size):
    """Draws from alphabets that are new at every step: the key, which changes with the step, makes them."""

    def fetch(key, training, item):
        label, drawer = item // world.drawers, item % world.drawers
        alphabet, character = label // world.characters, label % world.characters
        return jax.vmap(lambda a, c, d: glyphs.draw(key, a, c, d, size))(alphabet, character, drawer)

    return fetch


def _augment(config):
    if config.name == "none":
        return lambda keys, images: images
    return functools.partial(choose("augment.name", config.name, {"affine": augment.affine}), **config.affine)


def _objective(batch, head):
    if batch.mode == "pairs":
        return functools.partial(objectives.sampled_pairs, head)
    return functools.partial(objectives.all_pairs, head, across_groups=batch.across_groups)
