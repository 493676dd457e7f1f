"""Reading user tables, and refusing invalid ones."""

import pytest

from siamjax import files


def rows(path, text):
    path.write_bytes(text.encode("utf-8"))
    return list(files.table(path, ("path", "identity"), "path,identity[,group]"))


def test_tables_as_written_by_spreadsheets_and_by_hand(tmp_path):
    text = '\ufeff path , identity,group\r\n"a,b.png", "Lee, Ann",x\r\n\r\n,,\r\n  c.png ,Bob \r\nd.png,Cid,,,\r\n'
    found = rows(tmp_path / "t.csv", text)
    assert [where for where, _ in found] == [f"{tmp_path}/t.csv, line {number}" for number in (2, 5, 6)]
    assert [tuple(row.values()) for _, row in found] == [
        ("a,b.png", "Lee, Ann", "x"),
        ("c.png", "Bob", ""),
        ("d.png", "Cid", ""),
    ]


LONG = "".join(f"{number}.png,ann\n" for number in range(20_000))  # more than the csv module allows for one value


@pytest.mark.parametrize(
    "text,message",
    [
        ('path,identity\na.png,"ann\nb.png,bob\n', "t.csv, line 2: not valid CSV .*check the double quotes"),
        ('path,identity\na.png,"ann\nb.png,"bob"\n', "t.csv, line 2: not valid CSV"),
        ('path,identity\na.png,ann\n"b.png,bob\n"c.png,cid\n', "t.csv, line 3: not valid CSV"),
        ('path,identity\na.png,"ann\nb.png,bob"\n', "t.csv, line 2: a value continues on the next line"),
        ('path,identity\na.png,an"n\nb.png,"bob"x\n', "t.csv, line 3: not valid CSV"),
        (f'path,identity\na.png,"ann\n{LONG}', "t.csv, line 2: not valid CSV"),
        ("path,identity\na.png,Lee, Ann\n", "t.csv, line 2: 3 values for 2 columns; put values that hold commas in"),
        ("path,identity,identity\na.png,ann,bob\n", "t.csv: 2 columns are named 'identity'"),
        ("path;identity\na.png;ann\n", "t.csv: column 'path' is missing; .*found path;identity"),
    ],
)
def test_an_ambiguous_or_invalid_table_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        rows(tmp_path / "t.csv", text)
