"""Damaged, lost and contested run folders: short forms of the campaigns of `benchmarks/faults.py`."""

import collections

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import faults
from siamjax import parallel
from siamjax.training import loop, state
from siamjax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.thorough


def test_no_flipped_bit_of_a_checkpoint_is_believed(tmp_path, capfd):
    counts = collections.Counter(faults.checkpoints(tmp_path, 60))
    assert counts["held"] == 60, counts
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("campaign,count", [("prepared", 30), ("small_files", 100)])
def test_no_flipped_bit_of_prepared_images_or_small_files_is_believed(campaign, count, tmp_path):
    counts = collections.Counter(faults.CAMPAIGNS[campaign](tmp_path, count))
    assert counts["held"] == count, counts


def start():
    params = {"encoder": {"w": jnp.arange(6.0)}, "head": {}, "loss": {"centre": jnp.ones(2)}}
    return state.State(jnp.zeros((), jnp.int32), params, {}, optax.adamw(optax.linear_schedule(1, 0, 9)).init(params))


@pytest.fixture
def folder(tmp_path):
    """Checkpoints `latest` at steps 20 and 40, and `best` at 10 and 40; all weights are the step."""
    checkpoints = Checkpoints(tmp_path)
    for which, step, best in (("best", 10, 10), ("latest", 20, 10), ("latest", 40, 40), ("best", 40, 40)):
        params = {**start().params, "encoder": {"w": jnp.full(6, step, jnp.float32)}}
        progress = {"best_accuracy": best / 100, "best_step": best, "without_gain": 0}
        checkpoints.save(which, parallel.replicate(start().replace(step=jnp.int32(step), params=params)), progress)
    checkpoints.close()
    return tmp_path


def damage(place):
    for path in (place / "state" / "d").glob("*"):
        path.write_bytes(path.read_bytes()[:-8])


def resumed(folder):
    lines, checkpoints = [], Checkpoints(folder)
    restored, progress = checkpoints.resume(start(), lines.append)
    checkpoints.close()
    assert np.all(restored.params["encoder"]["w"] == restored.step)
    steps = [sorted(int(path.name) for path in (folder / which).iterdir()) for which in ("latest", "best")]
    return restored, progress, steps, lines


def test_two_checkpoints_of_each_kind_are_kept(folder):
    restored, progress, steps, lines = resumed(folder)
    assert (int(restored.step), progress["best_step"], lines) == (40, 40, [])
    assert steps == [[20, 40], [10, 40]]


def test_a_damaged_latest_checkpoint_is_replaced_by_the_one_before(folder):
    damage(folder / "latest" / "40")
    restored, progress, steps, lines = resumed(folder)
    assert (int(restored.step), progress["best_step"], progress["best_accuracy"]) == (20, 10, 0.1)
    assert steps == [[20], [10]]
    assert "latest/40 is damaged" in lines[0] and "moved to" in lines[0] and lines[1:] == ["resuming from latest/20"]
    assert (folder / "damaged" / "latest-40" / "state").is_dir()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_any_latest_training_resumes_from_the_best_with_its_schedule(folder):
    for step in (20, 40):
        damage(folder / "latest" / str(step))
    restored, progress, steps, lines = resumed(folder)
    assert (int(restored.step), progress["best_step"], steps) == (40, 40, [[], [10, 40]])
    assert "latest is lost: resuming from best/40, without the optimizer's state" in lines[-1]
    adam, _, schedule = restored.opt_state
    assert int(adam.count) == 0 and int(schedule.count) == 40
    assert np.all(restored.params["loss"]["centre"] == 1)


def test_a_best_checkpoint_that_a_kill_prevented_is_made_from_the_latest(folder):
    (folder / "best" / "40").rename(folder / "gone")
    restored, progress, _, lines = resumed(folder)
    assert (int(restored.step), progress["best_step"], lines) == (40, 0, [])
    checkpoints = Checkpoints(folder)
    progress = loop.keep(checkpoints, parallel.replicate(restored), progress, lambda state: 0.4)
    checkpoints.close()
    assert progress == {"best_accuracy": 0.4, "best_step": 40, "without_gain": 0}
    assert (folder / "best" / "40").is_dir()


def test_a_damaged_best_checkpoint_is_refused_by_evaluation_and_replaced_by_training(folder):
    (folder / "latest" / "40").rename(folder / "gone")
    damage(folder / "best" / "10")
    (folder / "best" / "40").rename(folder / "gone_too")
    reader = Checkpoints(folder, read_only=True)
    with pytest.raises(ValueError, match="best/10 is damaged"):
        reader.restore("best", start().evaluated())
    restored, progress, steps, lines = resumed(folder)
    assert (int(restored.step), progress["best_step"], steps) == (20, 0, [[20], []])
    assert "best/10 is damaged" in lines[0]


def test_if_no_checkpoint_can_be_read_nothing_is_changed(folder):
    for place in folder.glob("*/*"):
        damage(place)
    with pytest.raises(ValueError, match="latest/40 is damaged .*; no other checkpoint can be read: restore a copy"):
        resumed(folder)
    assert len(list(folder.glob("*/*"))) == 4
