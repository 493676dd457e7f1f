"""The training loop with a toy step: when it stops, and what it saves."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import parallel
from siamjax.training import loop, metrics, state
from siamjax.training.checkpoint import Checkpoints
from siamjax.training.metrics import MetricsLog


def config(**changed):
    return types.SimpleNamespace(
        **{"steps": 40, "validate_every": 5, "log_every": 5, "patience": 3, "keep": "best", **changed}
    )


def start(value=1.0):
    zero = jnp.zeros((), jnp.int32)
    return state.State(step=zero, params={"w": jnp.float32(value)}, batch_stats={}, opt_state=())


def run(tmp_path, settings, score, loss=lambda step: 1.0, at_once=1):
    def take(current, number, count):
        number = current.step + count
        values = {"loss": jnp.float32(loss(int(number[0]))), "pair_accuracy": 0.5, "gradient_norm": 1.0}
        return current.replace(step=number), parallel.replicate({k: jnp.float32(v) for k, v in values.items()})

    checkpoints = Checkpoints(tmp_path)
    restored, progress = checkpoints.resume(start(), print) or (start(), loop.NEW_RUN)
    log = MetricsLog(tmp_path / "metrics.csv", tmp_path / "tensorboard", after=int(restored.step))
    try:
        return loop.train(
            take,
            parallel.replicate(restored),
            config=settings,
            images=8,
            at_once=at_once,
            validate=lambda current: score(int(parallel.first(current.step))),
            checkpoints=checkpoints,
            log=lambda number, values, state: log.write(number, values),
            progress=progress,
        )
    finally:
        checkpoints.close()
        log.close()


def saved(tmp_path, which):
    checkpoints = Checkpoints(tmp_path)
    restored, progress = checkpoints.restore(which, start())
    checkpoints.close()
    return int(restored.step), progress


def test_stops_when_validation_stops_improving_and_keeps_the_best(tmp_path):
    progress = run(tmp_path, config(), score=lambda step: {5: 0.2, 10: 0.6, 15: 0.5}.get(step, 0.6))
    assert progress == {"best_accuracy": 0.6, "best_step": 10, "without_gain": 3}
    assert saved(tmp_path, "best")[0] == 10
    assert saved(tmp_path, "latest")[0] == 25


def test_keeping_the_last_checkpoint_ignores_validation(tmp_path):
    progress = run(tmp_path, config(keep="last"), score=lambda step: 1 / step)
    assert progress["best_step"] == saved(tmp_path, "best")[0] == saved(tmp_path, "latest")[0] == 40


def test_the_best_checkpoint_contains_the_averaged_weights(tmp_path):
    averaged = start().replace(average=({"w": jnp.float32(7.0)}, {}))
    checkpoints = Checkpoints(tmp_path)
    for which in ("best", "latest"):
        checkpoints.save(which, parallel.replicate(averaged), {})
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    assert float(checkpoints.restore("best", start())[0].params["w"]) == 7.0
    latest, _ = checkpoints.restore("latest", averaged)
    assert float(latest.params["w"]) == 1.0 and float(latest.average[0]["w"]) == 7.0
    checkpoints.close()


def test_a_resumed_run_counts_earlier_validations_without_improvement(tmp_path):
    run(tmp_path, config(steps=15), score=lambda step: 0.5 if step == 5 else 0.1)
    assert saved(tmp_path, "latest") == (15, {"best_accuracy": 0.5, "best_step": 5, "without_gain": 2})
    progress = run(tmp_path, config(), score=lambda step: 0.1)
    assert progress["without_gain"] == 3
    assert saved(tmp_path, "latest")[0] == 20


def test_a_loss_that_is_not_finite_stops_training_with_its_step_and_is_not_saved(tmp_path):
    with pytest.raises(FloatingPointError, match="at step 13. Lower the optimizer's learning_rate.*new workdir"):
        run(tmp_path, config(), score=lambda step: 0.1 * step, loss=lambda step: np.nan if step == 13 else 1.0)
    assert saved(tmp_path, "latest")[0] == saved(tmp_path, "best")[0] == 10
    assert [row["step"] for row in metrics.read(tmp_path / "metrics.csv")] == [5, 10]


def test_metrics_resume_after_the_checkpoint_and_keep_counting_time(tmp_path):
    first = MetricsLog(tmp_path / "metrics.csv", tmp_path / "tensorboard", after=0)
    for step in (10, 20, 30):
        first.write(step, {"loss": 1.0 / step})
    first.close()
    second = MetricsLog(tmp_path / "metrics.csv", tmp_path / "tensorboard", after=20)
    second.write(30, {"loss": 7.0, "validation_one_shot": 0.25})
    second.close()
    rows = metrics.read(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[2]["loss"] == 7.0 and rows[2]["validation_one_shot"] == 0.25 and "validation_one_shot" not in rows[0]
    assert rows[2]["seconds"] >= rows[1]["seconds"]


@pytest.mark.parametrize(
    "before,after,words",
    [
        ("step,", "stem,", "line 1: expected the columns step,seconds"),
        ("\n20,", "\n2O,", "line 3 is damaged"),
        ("\n20,", "\n5,", r"line 3 is damaged .step 5 after step 10"),
        ("\n20,", "\n20,1,", "line 3 is damaged"),
    ],
)
def test_damaged_metrics_are_named_and_kept(tmp_path, before, after, words):
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path, tmp_path / "tensorboard", after=0)
    for step in (10, 20, 30):
        log.write(step, {"loss": 1.0 / step})
    log.close()
    damaged = path.read_text().replace(before, after, 1)
    path.write_text(damaged)
    with pytest.raises(ValueError, match=f"metrics.csv, {words}.*; correct it, or move the file away"):
        MetricsLog(path, tmp_path / "tensorboard", after=30)
    assert path.read_text() == damaged


def test_missing_rows_of_metrics_are_said(tmp_path, capsys):
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path, tmp_path / "tensorboard", after=0)
    log.write(10, {"loss": 1.0})
    log.close()
    with path.open("a") as file:
        file.write("20,0.5")  # The disk was full.
    MetricsLog(path, tmp_path / "tensorboard", after=20).close()
    assert "metrics.csv: rows up to step 20 are missing; the last one is step 10" in capsys.readouterr().out


def test_a_checkpoint_of_another_network_is_refused_with_the_difference(tmp_path):
    run(tmp_path, config(steps=5), score=lambda step: 0.5)
    checkpoints = Checkpoints(tmp_path)
    other = start().replace(params={"w": jnp.zeros(3)})
    with pytest.raises(ValueError, match=r"best: .* params.w is \(\) there and \(3,\) as configured"):
        checkpoints.restore("best", other)
    checkpoints.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named(tmp_path):
    run(tmp_path, config(steps=5), score=lambda step: 0.5)
    for part in (tmp_path / "best" / "5" / "state" / "d").glob("*"):
        part.unlink()
    checkpoints = Checkpoints(tmp_path, read_only=True)
    with pytest.raises(ValueError, match="best/5 is damaged"):
        checkpoints.restore("best", start())
    checkpoints.close()


def test_steps_in_one_program_end_at_metrics_and_validations(tmp_path, monkeypatch):
    """On GPU and TPU, a program never spans a row of metrics, a validation, or the end."""
    monkeypatch.setattr(parallel, "on_cpu", lambda: False)
    assert parallel.steps_at_once(10, 100) == 10 and parallel.steps_at_once(100, 1171) == 1
    assert parallel.steps_at_once(96, 480) == 32 and parallel.steps_at_once(40, 200) == 20
    seen, settings = [], config(steps=23, validate_every=10, log_every=4)
    at_once = parallel.steps_at_once(settings.log_every, settings.validate_every)
    run(tmp_path, settings, score=lambda step: seen.append(step) or step / 100, at_once=at_once)
    assert at_once == 2 and seen == [10, 20, 23]
    assert [row["step"] for row in metrics.read(tmp_path / "metrics.csv")] == [4, 8, 10, 12, 16, 20, 23]
