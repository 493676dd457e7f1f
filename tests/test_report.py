"""Tables on the terminal, and the choice of pairs to draw."""

import numpy as np
import pytest

from siamjax import report

ROW = {"accuracy": 0.98765, "ci95": (0.97654, 0.99876), "units": 20, "over": "alphabets", "trials": 10_000, "seed": 0}


@pytest.mark.parametrize("columns", ["80", "40"])
def test_tables_fit_in_80_columns_and_are_never_truncated(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    name = "validation_within_alphabet_20way_1shot"
    title = "a/folder/with/a/long/name/in/runs/omniglot_fast: step 10000, the best checkpoint, as it was trained"
    report.table({name: ROW, "verification": ROW | {"seed": None}}, title)
    report.figures({"auc": 0.9876, "tar_at_far_0.0001": 0.5}, "400 test pairs, threshold-free")
    lines = capsys.readouterr().out.splitlines()
    assert f"{title}; trials drawn with seed 0" in lines
    (row,) = (line for line in lines if name in line)
    assert "98.77" in row and "10000" in row and "…" not in row
    assert max(len(line) for line in lines if title not in line) <= 80
    assert all(any(words in line for line in lines) for words in ("tar_at_far_0.0001", "threshold-free"))


def test_the_worst_mistake_of_each_pair_of_identities_is_shown():
    beyond = np.array([0.1, 0.9, 0.5, 0.7, 0.8, 0.2])
    identities = np.array([[1, 2], [2, 1], [1, 2], [3, 4], [5, 6], [4, 5]])
    wrong = np.array([True, True, True, True, False, True])
    assert report.worst_of_each(beyond, wrong, identities).tolist() == [1, 3, 5]
