"""Trains a network on arrays: `siamjax.fit`."""

import dataclasses
import functools
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from flax import linen as nn

from siamjax import digests, extras, parallel, sampling
from siamjax.data import arrays
from siamjax.data.arrays import Pairs
from siamjax.evaluation import drawn
from siamjax.network import Network, inputs_of
from siamjax.optimizer import keep_published
from siamjax.run import Run, parts, recipe, settings
from siamjax.training import objectives, whole
from siamjax.training.state import Model
from siamjax.training.types import Augment, Batch, Objective
from siamjax.types import BatchLoss

_MANY = 100  # identities from which on the learning rate is no longer lowered

Callback = Callable[[int, dict[str, float], Any], None]


def fit(
    x: npt.ArrayLike | Pairs,
    y: Iterable[Hashable] | None = None,
    *,
    encoder: Any = None,
    weights: str | os.PathLike[str] = "",
    frozen: bool = False,
    loss: str | BatchLoss | None = None,
    head: str | nn.Module | None = None,
    towers: int = 1,
    steps: int = 500,
    embedding: int = 128,
    identities: int = 32,
    per_identity: int = 4,
    pairs: int = 64,
    chunk: int = 0,
    optimizer: optax.GradientTransformation | None = None,
    augment: str | Augment | None = None,
    teacher: Network | None = None,
    validation: tuple[npt.ArrayLike, Iterable[Hashable]] | Pairs | None = None,
    callbacks: Sequence[Callback] = (),
    workdir: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Network:
    """Trains an encoder, so that distance between its embeddings means identity.

        network = siamjax.fit(x, y)                                     # inputs [n, ...] and their labels
        network = siamjax.fit(siamjax.Pairs(a, b, same))                # or pairs of inputs
        network.embed(new)                                              # identities may be new, too

    Args:
      x: inputs [n, ...]: images uint8 [n, h, w, c], or numbers of any shape; or `Pairs`.
      y: the label of each input, n of any hashable kind; None with `Pairs`.
      encoder: a name in `siamjax.encoders.ENCODERS`; a Flax module, linen or nnx; or a pair of functions (init, apply),
        see `siamjax.encoders.own`. None chooses convolutions for images of at least 8 pixels a side, and a multilayer
        perceptron for anything else.
      weights: of an encoder in `siamjax.encoders.ARCHITECTURES`, such as "mobilenet_v2": a file, "hf://ORG/NAME" or
        "default", see `siamjax.pretrained.load`. "" is random weights.
      frozen: whether these stay as they are, and only a linear layer after them is trained.
      loss: a name: any function of `siamjax.losses`, by what its arguments are, "cross_entropy" or "ranking"; or a
        function (embeddings [n, d], labels int [n]) -> scalar, of the labels' numbers in the order in which they come.
        None is "ntxent", and "contrastive" for `Pairs`.
      head: compares embeddings: a name in `siamjax.heads.HEADS`, or a linen module with `__call__` and `all_pairs` like
        those. None is the distance that the loss measures, or the cosine.
      towers: 2 for `Pairs` whose a and b are of two kinds, such as sketch and photo: one encoder for each, which start
        from the same weights; see `Network.tower`. 1: a and b share the encoder.
      steps: training steps.
      embedding: components of an embedding, of encoders given by name.
      identities, per_identity: a batch has this many identities with this many inputs each. Where there are fewer
        identities, it has all of them, or as many as can be shared evenly by the devices. An identity with fewer inputs
        gives all that it has, and further ones fill the batch.
      pairs: pairs per batch, half of them same pairs, for `Pairs` and for losses of given pairs.
      chunk: inputs that each device embeds at a time, for batches larger than memory; 0 for all. The result is the same
        to rounding, except that batch statistics are those of a chunk, and that random layers draw independently.
      optimizer: None is `siamjax.optimizer.adamw`, with warm-up and cosine decay; with k < 100 identities, its
        learning rate is k / 100 of the usual one.
      augment: "affine" or "photo" for images, see `siamjax.augment`; a function (keys [n], inputs) -> inputs; or None.
      teacher: a trained network whose similarities are half of what is learned, by `losses.similarity_distillation`;
        its encoder and head may be of any kind, and images are resized for it. For `x` with labels.
      validation: inputs and labels of identities that are not in `x`, or `Pairs`: the threshold and the probabilities
        are fitted to them. With labels, the state with the best one-shot accuracy is kept, instead of the last one.
      callbacks: called with (step, metrics, state) every ten steps; metrics are floats, the state is replicated over
        devices, see `siamjax.training.state.State`. It is valid during the call: `jax.device_get` copies it.
      workdir: a run folder for checkpoints and metrics. The same call resumes an interrupted training, and
        `Network.load` reads the folder. Another call is refused; but of functions and of `optimizer` only the name is
        compared, not what they do.
      seed: of initial weights, batches and augmentation.

    Returns:
      The trained network.

    Raises:
      ValueError: an argument has the wrong shape or value, or `workdir` holds another training.
      FloatingPointError: training diverged.
    """
    if isinstance(x, Pairs) != (y is None):
        raise ValueError("fit takes inputs and a label for each, fit(x, y), or Pairs alone, fit(Pairs(a, b, same))")
    check_whole(0, chunk=chunk, seed=seed)
    check_whole(1, steps=steps, embedding=embedding)
    check_whole(2, identities=identities, per_identity=per_identity, pairs=pairs)
    train = arrays.of_pairs(x) if isinstance(x, Pairs) else arrays.dataset(x, () if y is None else y)
    held_out = None if validation is None else _held_out(validation, train)
    loss = loss or ("ntxent" if train.pairs is None else "contrastive")
    _check_data(train, held_out, loss, augment, towers)
    config = _configuration(train, encoder, loss, head, augment)
    config.seed, config.train.steps = seed, steps
    config.encoder.update(embedding=embedding, towers=towers, weights=str(weights), frozen=frozen)
    config.batch.update(identities=identities, per_identity=per_identity, per_group=identities)
    config.batch.update(pairs=pairs, chunk=chunk)
    if train.pairs is not None or loss in objectives.PAIR_LOSSES:
        config.batch.mode = "pairs"
    config.train.patience = 10**9  # All steps are taken.
    if held_out is None or held_out.pairs is not None:
        config.train.keep = "last"
    model = parts.make_model(config, _own(encoder), _own(head))
    distort = augment if callable(augment) else None
    training = _training(config, model, train, held_out, loss, optimizer, distort, teacher)
    network_of = functools.partial(Network, model, inputs=inputs_of(config), settings=config)
    if workdir is None:
        trained, run = whole.in_memory(training, config.train, _logs(callbacks)), None
    else:
        own = encoder, loss, head, augment, optimizer, *([teacher.fingerprint] if teacher else [])
        config.data.arrays.digest = _digest(train, held_out, own)
        trained, run = _in_folder(workdir, training, config, train, _logs(callbacks), model)
    network = network_of(*trained.judged())
    if held_out is None:
        return network
    pairs_held_out = drawn.pairs(config.evaluation, {"validation": held_out})["validation"]
    decision = drawn.decision(network, held_out, drawn.embed(network, held_out), pairs_held_out)
    if run is not None:
        saved = {"decision": dataclasses.asdict(decision), "step": int(trained.step)}
        parallel.from_main(lambda: run.figures.write_verification(saved))
    return network_of(*trained.judged(), decisions={0: decision})


def check_whole(least: int, **numbers: Any) -> None:
    """Raises ValueError for a number, by name, that is not whole or less than `least`."""
    for name, value in numbers.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number, at least {least}")


def _check_data(train, held_out, loss, augment, towers):
    """Raises ValueError where arguments do not fit the data."""
    recipe.check_towers(towers, {"train": train} | ({"validation": held_out} if held_out else {}))
    of_pairs = (*objectives.PAIR_LOSSES, "cross_entropy")
    if train.pairs is not None and loss not in of_pairs:
        raise ValueError(
            f"loss={loss!r} compares all inputs of a batch by their labels, and Pairs have none: take a loss of pairs "
            f"({', '.join(of_pairs)}), or fit(x, y)"
        )
    x = np.asarray(train.images)
    if augment == "photo" and x.dtype != np.uint8 and (x.min() < 0 or x.max() > 1):
        raise ValueError(
            f"augment='photo' is for images in 0..1, found {x.min()} to {x.max()}: scale them, or pass uint8"
        )


def _training(config, model, train, held_out, loss, optimizer, distort, teacher):
    """What `whole` carries out; raises ValueError where the parts do not fit together."""
    mode, identities = config.batch.mode, len(train.names) or None
    objective = objectives.make(loss, model.head, mode=mode, identities=identities)
    if mode == "identities":
        config.batch.identities = _shared_evenly(config.batch, train)
    make_batches, images = recipe.make_batches(config, train, distort=distort)
    shape = train.images.shape[1:]
    _check(model, objective, distort or parts.make_augment(config), shape, images)
    if teacher is not None:
        objective = recipe.taught(config, objective, model, shape, teacher)
    chunk = whole.checked_chunk(config.batch.chunk, images, model.encoder)
    if optimizer is None:
        optimizer = recipe.make_optimizer(config, objective)
    elif config.encoder.frozen:
        optimizer = keep_published(optimizer)
    validate = None
    if held_out is not None and held_out.pairs is None:
        network_of = functools.partial(Network, model)
        validate = drawn.accuracy_of(network_of, held_out, drawn.trials(config.evaluation, held_out))
    return whole.training(
        model,
        objective,
        optimizer,
        make_batches,
        shape,
        seed=config.seed,
        validate=validate,
        chunk=chunk,
        published=parts.published_weights(config),
    )


def _own(given):
    """What the caller made, or None if it is a name or the default."""
    return None if given is None or isinstance(given, str) else given


def _configuration(train, encoder, loss, head, augment):
    """The settings of a call."""
    config, shape = settings.default(), train.images.shape[1:]
    config.data.name, config.batch.across_groups, config.evaluation.across_groups = "arrays", True, True
    config.data.arrays.shape, config.data.arrays.dtype = shape, train.images.dtype.name
    config.encoder.name = encoder if isinstance(encoder, str) else "own"
    if encoder is None:
        of_images = 2 <= len(shape) <= 3 and min(shape[:2]) >= 8
        config.encoder.name = "conv" if of_images else "mlp"
        config.encoder.conv.update(multiples=(1, 1, 2), pooled=(2,), past=True)
    if config.encoder.name == "mlp":
        config.encoder.width = 256
    config.loss.name = loss if isinstance(loss, str) else "own"
    config.head.name = head if isinstance(head, str) else "own"
    if head is None:
        config.head.name = "distance"
        config.head.distance.distance = objectives.loss_options().get(config.loss.name, {}).get("distance", "cosine")
    config.augment.name = augment if isinstance(augment, str) else "none"
    if train.names:
        # What is learned from a few identities is of little use for others: distances stay near those of the inputs.
        config.optimizer.adamw.learning_rate *= min(1.0, len(train.names) / _MANY)
    return config


def _shared_evenly(batch, train):
    """The largest number of identities, up to `batch.identities`, whose inputs all devices can share."""
    index, devices = sampling.make_index(train), jax.device_count()
    # Where identities have too few inputs to fill a batch, it takes fewer of each.
    for per_identity in (batch.per_identity, max(2, min(batch.per_identity, int(np.max(index.images))))):
        most = min(batch.identities, sampling.most_identities(index, per_identity, batch.per_group))
        shared = [count for count in range(2, most + 1) if not count * per_identity % devices]
        if shared:
            batch.per_identity = per_identity
            return shared[-1]
    raise ValueError(
        f"no batch of 2 to {most} identities × per_identity={per_identity} inputs can be split evenly over "
        f"{devices} devices; set per_identity to a multiple of {devices}, or add identities"
    )


def _check(model: Model, objective: Objective, augment: Augment, shape: tuple[int, ...], images: int) -> None:
    """Raises ValueError where encoder, loss, head or augmentation do not fit, before anything is compiled."""
    inputs = jax.ShapeDtypeStruct((images, *shape), jnp.float32)
    _check_augment(augment, inputs)
    try:
        embeddings, _ = jax.eval_shape(model.encoder.init_with_output, jax.random.key(0), inputs)
    except Exception as error:  # Whatever the encoder's own code raises.
        raise ValueError(f"the encoder does not take inputs of shape {['n', *shape]}: {error}") from error
    if getattr(embeddings, "ndim", 0) != 2 or not jnp.issubdtype(embeddings.dtype, jnp.floating):
        raise ValueError(
            f"the encoder gives {getattr(embeddings, 'dtype', type(embeddings))} "
            f"{list(getattr(embeddings, 'shape', ()))} for {images} inputs, expected floats [{images}, d]"
        )
    numbers = jnp.zeros(images, jnp.int32)
    batch = Batch(images=inputs, noise=None, label=numbers, group=numbers)  # type: ignore[arg-type]

    def value(embeddings):
        head = model.head.init(jax.random.key(0), embeddings, embeddings).get("params", {})
        own = objective.init(jax.random.key(0), embeddings.shape[1])
        return objective.value({"head": head, "loss": own}, embeddings, batch)[0]

    try:
        found = jax.eval_shape(value, embeddings)
    except Exception as error:  # Whatever the loss's own code raises.
        raise ValueError(f"the loss does not take embeddings {list(embeddings.shape)} and labels: {error}") from error
    if found.shape != ():
        raise ValueError(f"the loss gives {list(found.shape)}, expected one number for the whole batch: take the mean")


def _check_augment(augment, inputs):
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), inputs.shape[0]))
    try:
        made = jax.eval_shape(augment, keys, inputs)
    except Exception as error:  # Whatever its own code raises.
        raise ValueError(f"augment does not take inputs of shape {list(inputs.shape)}: {error}") from error
    if getattr(made, "shape", None) != inputs.shape:
        raise ValueError(f"augment gives {made} for inputs of shape {list(inputs.shape)}, expected the same shape")


def _held_out(validation, train):
    """The validation data, whose inputs are like those of `train`."""
    if isinstance(validation, Pairs):
        dataset = arrays.of_pairs(validation, "validation: ")
    elif not isinstance(validation, tuple) or len(validation) != 2:
        raise ValueError("validation: expected inputs and their labels, validation=(x, y), or Pairs")
    else:
        dataset = arrays.dataset(*validation, name="validation: ")
    found, expected = ((part.images.dtype.name, list(part.images.shape[1:])) for part in (dataset, train))
    if found != expected:
        raise ValueError(
            f"validation: found inputs {found[0]} {found[1]}, expected {expected[0]} {expected[1]}, as in training"
        )
    known = {hash(row.tobytes()) for row in np.asarray(train.images)}  # Not the bytes, which would be all data again.
    seen = sum(hash(row.tobytes()) in known for row in np.asarray(dataset.images))
    if 2 * seen >= len(dataset):
        raise ValueError(
            f"validation: {seen} of its {len(dataset)} inputs are trained on, too, so that it would say nothing about "
            "others; hold out some identities"
        )
    return dataset


def _digest(train, held_out, own):
    """Of what a call is given besides its settings; of functions, and of optimizers, the name alone."""
    facts = [np.frombuffer(" ".join(map(_named, own)).encode(), np.uint8)]
    for part in (train, held_out):
        if part is not None:
            facts += [np.asarray(part.images), *((part.label,) if part.pairs is None else part.pairs)]
    return digests.of(facts)


def _named(own: Any) -> str:
    if own is None or isinstance(own, str | nn.Module):
        return str(own)
    return " ".join(
        getattr(each, "__qualname__", type(each).__qualname__) for each in (own if type(own) is tuple else [own])
    )


def _logs(callbacks):
    def log(number, values, state):
        for callback in callbacks:
            callback(number, values, state)

    return log


def _in_folder(workdir, training, config, train, log, model):
    """The state to keep, on the host, and the `Run` that holds it."""
    with extras.needed_for("a workdir"):
        # Used once files are written; what is missing is told before.
        import orbax.checkpoint  # noqa: F401
        import tensorboardX  # noqa: F401
    run = Run(workdir)
    parallel.from_main(lambda: run.check_resumable(config))
    with run.locked():
        parallel.from_main(lambda: run.check_resumable(config))
        parallel.from_main(lambda: run.start(config, {"train": train}))
        whole.in_folder(training, config.train, run.paths, log, print)
        return run.restore(model, train.images.shape[1:])[0], run
