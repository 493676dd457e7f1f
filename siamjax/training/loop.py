"""The training loop: runs steps, logs metrics, validates, saves checkpoints, stops early."""

import math
import time
from collections.abc import Callable

from ml_collections import ConfigDict

from siamjax import parallel
from siamjax.progress import Progress
from siamjax.training.state import State
from siamjax.training.types import Keeps, Log, Metrics

NEW_RUN = {"best_accuracy": -1.0, "best_step": 0, "without_gain": 0}


def train(
    take: Callable[[State, int, int], tuple[State, Metrics]],
    state: State,
    *,
    config: ConfigDict,
    images: int,
    at_once: int,
    validate: Callable[[State], float] | None,
    checkpoints: Keeps,
    log: Log,
    progress: dict,
) -> dict:
    """Trains until `config.steps`, or until `config.patience` validations in a row without improvement.

    Args:
      take: (state, number, count) -> (state, metrics) after `count` steps from step `number`, see `step.stepper`.
      state: replicated state to start from.
      config: the `train` part of a configuration.
      images: images per step, to report the speed.
      at_once: steps per compiled program; a divisor of `config.validate_every` and `config.log_every`.
      validate: replicated state -> one-shot accuracy on the validation trials, 0..1; None if there are none, then the
        last state counts as the best.
      checkpoints: saved after every validation: `latest`, and `best` if it is one.
      log: called with (step, metrics, replicated state).
      progress: `NEW_RUN`, or the progress in the restored checkpoint.

    Returns:
      The progress at the end: best accuracy, its step, and validations without improvement since.

    Raises:
      FloatingPointError: the loss is not finite; that step is not saved.
    """
    first = number = int(parallel.first(state.step))
    pending = None
    clock = time.monotonic()
    counted = first
    hidden, speed, score = not parallel.is_main_process(), "", ""
    with Progress("training", config.steps, first, hidden=hidden, stays=True) as bar:
        if first < config.steps:
            bar.print("compiling the training step")
            bar.note("compiling")
        while not finished(config, number, progress):
            count = at_once if number % at_once == 0 and number + at_once <= config.steps else 1
            state, metrics = take(state, number, count)
            if pending is not None:
                _fetch(*pending)
            number += count
            pending = (metrics, number)
            if number == first + count:
                _fetch(*pending)  # Excludes compilation from the measured speed.
                extent = f"from step {first} to {config.steps}" if first else f"to step {config.steps}"
                bar.note("")
                bar.print(f"compiled in {time.monotonic() - clock:.0f} s; training {extent}")
                clock, counted = time.monotonic(), number
            at_validation = number % config.validate_every == 0 or number == config.steps
            if at_validation or number % config.log_every == 0:
                values, pending = _fetch(*pending), None
                rate = (number - counted) * images / (time.monotonic() - clock)
                if number > counted:
                    values["images_per_second"] = round(rate, 2)
                    speed = f"{rate:.0f} images/s"
                if at_validation:
                    accuracy = progress["best_accuracy"]
                    if validate is not None:
                        values["validation_one_shot"] = accuracy = validate(state)
                    progress = _judge(progress, accuracy, number, validate is None or config.keep == "last")
                # A checkpoint is never ahead of the metrics.
                log(number, values, state)
                if at_validation:
                    _save(checkpoints, state, progress, number)
                    best = f", best {progress['best_accuracy']:.1%}" if config.keep == "best" else ""
                    score = f", validation {accuracy:.1%}{best}" if validate else ""
                    bar.print(_line(number, values))
                bar.note(speed + score)
                clock, counted = time.monotonic(), number
            bar.advance(count)
    return progress


def keep(checkpoints: Keeps, state: State, progress: dict, validate: Callable[[State], float] | None) -> dict:
    """Saves replicated `state` as the best checkpoint, where there is none; returns the progress with its accuracy."""
    accuracy = validate(state) if validate else progress["best_accuracy"]
    progress = {**progress, "best_accuracy": accuracy, "best_step": int(parallel.first(state.step))}
    checkpoints.save("best", state, progress)
    return progress


def finished(config: ConfigDict, step: int, progress: dict) -> bool:
    """Whether training ends at `step`; `config` and `progress` as in `train`."""
    return step >= config.steps or progress["without_gain"] >= config.patience


def _save(checkpoints, state, progress, step):
    checkpoints.save("latest", state, progress)
    if progress["best_step"] == step:
        checkpoints.save("best", state, progress)


def _line(step, values):
    active = f"active {values['active_share']:.1%}  " if "active_share" in values else ""
    one_shot = f"one-shot {values['validation_one_shot']:.1%}" if "validation_one_shot" in values else ""
    return (
        f"step {step:6d}  loss {values['loss']:.4f}  pairs {values['pair_accuracy']:.1%}  {active}{one_shot}".rstrip()
    )


def _judge(progress, accuracy, step, keep_last):
    if accuracy > progress["best_accuracy"] or keep_last:
        return {"best_accuracy": accuracy, "best_step": step, "without_gain": 0}
    return {**progress, "without_gain": progress["without_gain"] + 1}


def _fetch(metrics, step):
    """Waits for a step and returns its metrics as floats; raises FloatingPointError if the loss is not finite."""
    values = {name: float(value) for name, value in parallel.first(metrics).items()}
    if not all(math.isfinite(value) for value in values.values()):
        raise FloatingPointError(
            f"training diverged: loss {values['loss']}, gradient norm {values['gradient_norm']} at step {step}. "
            "Lower the optimizer's learning_rate, or set encoder.dtype=float32, and train in a new workdir"
        )
    return values
