"""Lists of pairs in their formats, and the errors on wrong ones."""

import numpy as np
import pytest
from PIL import Image

from siamjax.data import pair_list


@pytest.fixture
def people(tmp_path):
    for name in ("Ann_Lee", "Bob"):
        (tmp_path / name).mkdir()
        for number in range(1, 4):
            Image.new("L", (8, 8), number).save(tmp_path / name / f"{name}_{number:04d}.jpg")
    return tmp_path


def test_a_table_of_pairs(people):
    (people / "pairs.csv").write_text(
        "same,path_b,path_a\n1,Bob/Bob_0001.jpg,Bob/Bob_0002.jpg\nFalse,Bob/Bob_0001.jpg,Ann_Lee/Ann_Lee_0003.jpg\n"
    )
    pairs = pair_list.read(people / "pairs.csv")
    assert pairs.first == (people / "Bob" / "Bob_0002.jpg", people / "Ann_Lee" / "Ann_Lee_0003.jpg")
    assert pairs.second == (people / "Bob" / "Bob_0001.jpg",) * 2
    assert pairs.same.tolist() == [True, False] and pairs.fold.tolist() == [0, 0]
    (people / "pairs.csv").write_text(
        "path_a,path_b,same,fold\nBob/Bob_0001.jpg,Bob/Bob_0002.jpg,1,10\nBob/Bob_0001.jpg,Ann_Lee/Ann_Lee_0003.jpg,0,2\n"
    )
    assert pair_list.read(people / "pairs.csv").fold.tolist() == [1, 0], "numbered in their order"


def test_lfws_list_with_its_folds(people, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("lists") / "pairs.txt"
    elsewhere.write_text("2\t1\nBob\t1\t3\nBob\t2\tAnn_Lee\t1\nAnn_Lee\t1\t2\nAnn_Lee\t3\tBob\t3\n")
    pairs = pair_list.read(elsewhere, people)
    assert pairs.first[1] == people / "Bob" / "Bob_0002.jpg" and pairs.second[1].name == "Ann_Lee_0001.jpg"
    np.testing.assert_array_equal(pairs.same, [True, False, True, False])
    np.testing.assert_array_equal(pairs.fold, [0, 0, 1, 1])
    elsewhere.write_text("1\nBob\t1\t3\nBob\t2\tAnn_Lee\t1\n")  # pairsDevTest.txt
    np.testing.assert_array_equal(pair_list.read(elsewhere, people).fold, [0, 0])


@pytest.mark.parametrize(
    "name,text,message",
    [
        ("p.csv", "path_a,same\n", "p.csv: column 'path_b' is missing; expected path_a,path_b,same.,fold., found"),
        (
            "p.csv",
            "path_a,path_b,same\na,b,perhaps\n",
            "p.csv, line 2: expected two paths, and 1 or 0, found 'perhaps'",
        ),
        ("p.csv", "path_a,path_b,same\nBob/Bob_0001.jpg,no.jpg,1\n", "p.csv, line 2: .*no.jpg not found"),
        ("p.csv", "path_a,path_b,same\n", "lists no pairs"),
        ("p.txt", "Bob 1 2\n", "line 1: expected LFW's 'folds pairs'"),
        ("p.txt", "1 1\nBob 1\n", "line 2: expected 'name number"),
        ("p.txt", "1 1\nBob 1 x\n", "line 2: expected 'name number"),
        ("p.txt", "1 1\nBob 1 ²\n", "line 2: expected 'name number"),
        ("p.csv", 'path_a,path_b,same\n"a,b,1\nc,d,1\n', "p.csv, line 2: not valid CSV .*check the double quotes"),
        ("p.csv", "path_a,path_b,same\nLee, Ann.png,b,1\n", "p.csv, line 2: 4 values for 3 columns"),
    ],
)
def test_errors_on_wrong_lists_name_the_line(people, name, text, message):
    (people / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pair_list.read(people / name)
    with pytest.raises(FileNotFoundError, match="none.csv not found"):
        pair_list.read(people / "none.csv")


def lfw(head, folds, pairs, drop=None):
    """LFW's list with `head` as its first line, without line number `drop` (the head is 1)."""
    fold = ["Bob\t1\t2"] * pairs + ["Bob\t1\tAnn_Lee\t1"] * pairs
    lines = [head, *(fold * folds)]
    return "".join(f"{line}\n" for number, line in enumerate(lines, start=1) if number != drop)


@pytest.mark.parametrize(
    "text,message",
    [
        (lfw("10\t300", 4, 5), "line 7: found a pair of different people, where pair 6 of fold 1 is one of the same"),
        (
            lfw("4\t3", 4, 5),
            "line 5: found a pair of the same person, where pair 4 of fold 1 is one of different people",
        ),
        (lfw("4\t5", 4, 5, drop=14), "line 16: found .*different people, where pair 5 of fold 2 is one of the same"),
        (lfw("4\t5", 4, 5, drop=41), "p.txt: found 39 pairs, but line 1, .*says 40: 4 fold"),
        (lfw("4\t5", 2, 5), "found 20 pairs, but line 1, .*says 40"),
        (lfw("4\t5", 5, 5), "found 50 pairs, but line 1, .*says 40"),
        (lfw("20", 4, 5), "line 7: found a pair of different people"),
        (lfw("4\t0", 4, 5), "line 2: .*says that each fold has 0 same pairs"),
    ],
)
def test_lfws_lists_whose_first_line_contradicts_the_others_are_refused(people, text, message):
    (people / "p.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        pair_list.read(people / "p.txt")


def test_lfws_list_with_other_line_ends_and_blanks(people):
    (people / "Bob").rename(people / "Bob Roe")
    for number in range(1, 4):
        (people / "Bob Roe" / f"Bob_{number:04d}.jpg").rename(people / "Bob Roe" / f"Bob Roe_{number:04d}.jpg")
    (people / "p.txt").write_text(
        "\ufeff1\t1 \r\n Bob Roe \t1\t 3\t\r\n\r\nBob Roe\t2\t Ann_Lee\t1\r\n", encoding="utf-8"
    )
    pairs = pair_list.read(people / "p.txt")
    assert pairs.second[0].name == "Bob Roe_0003.jpg" and pairs.second[1].name == "Ann_Lee_0001.jpg"
    np.testing.assert_array_equal(pairs.same, [True, False])


def test_a_pair_without_the_fold_that_others_have_is_refused(tmp_path):
    for name in "ab":
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "list.csv").write_text("path_a,path_b,same,fold\na.png,b.png,1,1\na.png,b.png,0,\n")
    with pytest.raises(ValueError, match=r"list.csv, line 3: it has no fold, but other pairs do"):
        pair_list.read(tmp_path / "list.csv")
