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


def test_what_file_managers_and_killed_writes_leave_does_not_fill_a_folder(tmp_path):
    for name in (".DS_Store", "Thumbs.db", "card.json.0123abcd.partial"):
        (tmp_path / name).touch()
    files.check_empty(tmp_path, "an export")
    (tmp_path / "notes.partial").touch()
    with pytest.raises(ValueError, match=r"has other files in it \('notes.partial'\)"):
        files.check_empty(tmp_path, "an export")


def test_a_file_that_cannot_be_written_is_told_with_its_reason(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(PermissionError, match="link is a link to nothing; choose another folder"):
        files.check_empty(tmp_path / "link", "an export")
    with pytest.raises(OSError, match="x{50}[.]{3} is too long as a name") as raised:
        files.opened("x" * 5000)
    assert len(str(raised.value)) < 200
