"""The rule of plain manifests, tables and their errors, row by row."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.errors import ManifestError
from ossmount.sources import arrow_csv
from ossmount.sources.arrow_csv import is_well_quoted, read_table
from ossmount.sources.columns import choose_columns, clean_etag, parse_count, parse_mtime
from ossmount.sources.parsing import Plain, Row, Table, detect_form, format_line, read_rows, split_line

TEXT = st.text(
    alphabet=st.one_of(st.sampled_from(' \t"ab,./#é\r'), st.characters(exclude_categories=["Cs"])), max_size=8
)


def rows(text: str | bytes) -> list[tuple[int, Row]]:
    data = text.encode() if isinstance(text, str) else text
    form = detect_form(io.BytesIO(data), "m")
    return list(read_rows(io.BytesIO(data), form, "m"))


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a.jpg", "a.jpg", None),
        ("a.jpg\tcat", "a.jpg", "cat"),
        ("my photo.jpg\tgolden retriever", "my photo.jpg", "golden retriever"),
        ("my photo.jpg", "my photo.jpg", None),
        ('"a b"\tx', '"a b"', "x"),
        ("a\tb.jpg\tx", "a\tb.jpg", "x"),
    ],
)
def test_lines_of_a_file_with_tabs(line: str, path: str, label: str | None) -> None:
    assert split_line(line, tabbed=True) == (path, label)


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a.jpg", "a.jpg", None),
        ("a.jpg cat", "a.jpg", "cat"),
        ("  a.jpg   cat ", "a.jpg", "cat"),
        ("my photo.jpg cat", "my photo.jpg", "cat"),
        ('"my photo.jpg"', "my photo.jpg", None),
        ('"my ""new"" photo.jpg" cat', 'my "new" photo.jpg', "cat"),
        ('a"b c', 'a"b', "c"),
    ],
)
def test_lines_of_a_file_without_tabs(line: str, path: str, label: str | None) -> None:
    assert split_line(line, tabbed=False) == (path, label)


@given(TEXT, st.none() | TEXT, st.booleans())
def test_what_can_be_written_is_read_back(path: str, label: str | None, tabbed: bool) -> None:
    try:
        line = format_line(path, label, tabbed=tabbed)
    except ValueError:
        return
    assert split_line(line, tabbed=tabbed) == (path, label)
    assert "\n" not in line


@given(
    st.text(alphabet=' ab"#,é', min_size=1, max_size=8),
    st.none() | st.text(alphabet="ab#", min_size=1, max_size=3),
)
def test_spaces_and_quotes_can_always_be_written(path: str, label: str | None) -> None:
    assert split_line(format_line(path, label, tabbed=False), tabbed=False) == (path, label)
    assert split_line(format_line(path, label, tabbed=True), tabbed=True) == (path, label)


def test_one_tab_decides_for_the_whole_file() -> None:
    with_tab = "my photo.jpg\nyour photo.jpg\tcat\n"
    assert rows(with_tab) == [(1, Row("my photo.jpg")), (2, Row("your photo.jpg", "cat"))]
    assert rows(with_tab.replace("\t", " ")) == [
        (1, Row("my", "photo.jpg")),
        (2, Row("your photo.jpg", "cat")),
    ]


def test_a_tab_far_behind_decides_as_well() -> None:
    text = "a b\n" * 600_000 + "c\td\n"
    assert detect_form(io.BytesIO(text.encode()), "m") == Plain(tabbed=True)


def test_line_ends_blank_lines_and_bom() -> None:
    assert rows(b"\xef\xbb\xbfa x\r\n\r\n   \n#b y") == [(1, Row("a", "x")), (4, Row("#b", "y"))]


def test_table() -> None:
    text = 'label,key,size,etag,mtime\ncat,"a,""b""\nc",3,"""e1""",1970-01-01T00:00:02Z\n\n,d,,,1.5\n'
    assert rows(text) == [
        (2, Row('a,"b"\nc', "cat", 3, "e1", 2_000_000_000)),
        (5, Row("d", None, -1, "", 1_500_000_000)),
    ]


@pytest.mark.parametrize("header", ["key", "key\tsize", "etag,key", '"key","label"', "\ufeffkey,size"])
def test_headers(header: str) -> None:
    form = detect_form(io.BytesIO((header + "\n").encode()), "m")
    assert isinstance(form, Table)
    assert "key" in form.columns


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a\tx\nb\t\n", 2, "empty"),
        ("a x\nb y/z\n", 2, "'/'"),
        ("a\t..\n", 1, "directory name"),
        ("a\t" + "x" * 256, 1, "longer than 255"),
        ("\tx\n", 1, "path is empty"),
        ('a x\n\n"b y\n', 3, "does not end"),
        ('"b" two words\n', 1, "separate with a tab"),
        (b"a x\nb\xff y\n", 2, "byte 2"),
        ("a x\nb\0 y\n", 2, "NUL"),
        ("key,size\na,1\nb,-2\n", 3, "negative"),
        ("key,size\na,1\nb,two\n", 3, "not a number"),
        ("key,size\na,1\nb\n", 3, "1 cells"),
        ("key,size\na,99999999999999999999\n", 2, "too large"),
        ("key,label\na,x/y\n", 2, "'/'"),
        ("key,label\na, \n", 2, "empty"),
        ("key,label\n,x\n", 2, "path is empty"),
        ("key,mtime\na,yesterday\n", 2, "ISO 8601"),
        ('key,etag\na,e\n"b","e\r\nX: y"\n', 3, "control character"),
        ('key,label\n"a\n\nb",x\n"c', 5, "end of data"),
        ("key,lable\na,x\n", 1, "'lable'"),
        ("key,size\ra,1\r", 1, "carriage return"),
        ('key,"' + "x" * 200_000 + '"\n', 1, "field larger"),
        ("key,size,size\n", 1, "twice"),
    ],
)
def test_errors_name_the_line(text: str | bytes, line: int, word: str) -> None:
    with pytest.raises(ManifestError, match=word) as caught:
        rows(text)
    assert (caught.value.place, caught.value.line) == ("m", line)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("names", "mapping", "reason"),
    [
        (["path", "label"], {}, "no column 'file_name'; there are path, label"),
        (["key", "kind"], {"label": "class"}, "no column 'class'"),
        (["key", "class", "class"], {"label": "class"}, "'class' is there twice"),
        (["key", "class"], {"label": "class", "etag": "class"}, "'class' would be label and etag"),
        (["key"], {"label": "key"}, "'key' would be key and label"),
    ],
)
def test_columns_that_cannot_be_chosen(names: list[str], mapping: dict[str, str], reason: str) -> None:
    """Else labels were missing without a word."""
    with pytest.raises(ManifestError, match=reason):
        choose_columns(names, mapping, "m")


def test_a_time_without_a_zone_is_utc_on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "XXX-8")
        time.tzset()
        assert parse_mtime("1970-01-01T00:00:01") == 1_000_000_000
    time.tzset()


def test_cells() -> None:
    assert parse_mtime("2024-01-01T01:00:00.5+01:00") == 1_704_067_200_500_000_000
    assert parse_mtime("2024-01-01") == parse_mtime("1704067200") == parse_mtime(" 1704067200 ")
    assert parse_mtime("-1.5") == -1_500_000_000
    assert parse_mtime("9999-12-31") == parse_mtime("253402214400")
    assert parse_mtime("1704067200.123456789") == 1_704_067_200_123_456_789
    assert parse_mtime("-62135596800") == parse_mtime("0001-01-01")
    for text in ("-62135596801", "253402300799.1"):
        with pytest.raises(ValueError, match="within the years 1 to 9999"):
            parse_mtime(text)
    assert [parse_count(text) for text in ("", " 0 ", f"{(1 << 63) - 1}")] == [-1, 0, (1 << 63) - 1]
    with pytest.raises(ValueError, match="too large"):
        parse_count(f"{1 << 63}")


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ('a,"b, ""c""\n",d\r\n"","e"', True),
        ('a,"b"c\n', False),
        ('a,b"c\n', False),
        ('a,"b" ,c\n', False),
        ('a,"b\nc,"d\n', False),
        ('"a\n', False),
        ("a\rb\n", False),
        ("a\r\nb\r", True),
        ('\ufeff"a","b"\n', True),
        ("\ufeff", True),
        ('\ufeff"a"\ufeff"b"\n', False),
    ],
)
@pytest.mark.parametrize("piece", [1, 2, 1000])
def test_quotes_that_arrow_would_read_otherwise(
    monkeypatch: pytest.MonkeyPatch, text: str, sound: bool, piece: int
) -> None:
    monkeypatch.setattr(arrow_csv, "_BLOCK", piece)
    assert is_well_quoted(io.BytesIO(text.encode()), ",") is sound


@pytest.mark.parametrize(
    ("text", "etag"),
    [
        (' "ab-2" ', "ab-2"),
        ("ab-2", "ab-2"),
        ('W/"ab"', "W/ab"),
        (' W/"ab" ', "W/ab"),
        ("W/ab", "W/ab"),
        ('"W/"ab""', "W/ab"),
        ("", ""),
    ],
)
def test_an_etag_in_a_table_is_the_one_that_a_store_gives(tmp_path: Path, text: str, etag: str) -> None:
    assert clean_etag(text) == etag
    quoted = text.replace('"', '""')
    table = f'key,etag\nx,"{quoted}"\n'.encode()
    assert [row.etag for _, row in rows(table)] == [etag]
    (tmp_path / "t").write_bytes(table)
    with (tmp_path / "t").open("rb") as stream:
        (fast,) = read_table(stream, Table(("key", "etag"), ","))
    assert list(fast.etags or ()) == [etag]
