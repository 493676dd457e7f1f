"""The recipes for faces and signatures, trained on the real data for minutes each."""

import json

import pytest
from test_launch import finish, launch

# Recipe -> steps of a short training, a measure of unseen people, and what a broken recipe does not reach.
SHORT = {
    "signatures": (100, "skilled_1_reference_auc", 0.0),
    "faces_front_profile": (150, "cfp_fp_auc", 0.0),
    "faces_lfw": (100, "lfw_view2_auc", 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_recipe_learns_to_distinguish_unseen_people(name, photographs_dir, tmp_path):
    steps, measure, least = SHORT[name]
    code, _, errors = finish(
        launch(
            *("--config", f"configs/{name}.py", "--workdir", tmp_path / "run"),
            *(f"--config.data.manual_dir={photographs_dir}", f"--config.data.data_dir={tmp_path}"),
            *(f"--config.train.steps={steps}", f"--config.train.validate_every={steps}"),
            "--config.evaluation.copies=0",
        ),
        timeout=1800,
    )
    assert code == 0, errors
    judged = json.loads((tmp_path / "run" / "verification.json").read_text())
    assert judged["protocols"][measure] > least
