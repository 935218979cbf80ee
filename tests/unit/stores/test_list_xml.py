"""Pages of ListObjectsV2: what the fast reader reads is what botocore reads; else it declines."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote, quote_plus

import pytest
from botocore.parsers import create_parser
from botocore.session import Session
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.model import ListPage
from ossmount.stores.list_xml import nanoseconds, read_list_page, unescape

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
SHAPE = Session().get_service_model("s3").operation_model("ListObjectsV2").output_shape

key = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


def row(name: str, size: int, etag: str, modified: str) -> str:
    return (
        f"<Contents><Key>{name}</Key><LastModified>{modified}</LastModified><ETag>{etag}</ETag>"
        f"<Size>{size}</Size><Owner><ID>me</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>"
    )


def document(rows: str, prefixes: str = "", tail: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    text = f"{HEAD}<Name>b</Name><EncodingType>url</EncodingType>{tail}{rows}{prefixes}</ListBucketResult>"
    return text.encode()


ROW = row("a", 3, "&quot;e&quot;", "2024-01-02T03:04:05.000Z")


@settings(max_examples=50)
@given(
    st.lists(st.tuples(key, st.integers(0, 2**63), st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)))),
    st.lists(key),
    st.sampled_from([quote, quote_plus]),
)
def test_reads_what_botocore_reads(
    rows: list[tuple[str, int, datetime]], prefixes: list[str], encode: object
) -> None:
    body = document(
        "".join(
            row(encode(k), s, "&#34;e&#34;", f"{m:%Y-%m-%dT%H:%M:%S}.{m.microsecond // 1000:03}Z")
            for k, s, m in rows
        ),
        "".join(f"<CommonPrefixes><Prefix>{encode(p)}</Prefix></CommonPrefixes>" for p in prefixes),
    )
    read = read_list_page(body)
    if not rows and not prefixes:
        assert read is None
        return
    assert read is not None
    page, token = read
    parsed = create_parser("rest-xml").parse({"body": body, "headers": {}, "status_code": 200}, SHAPE)
    contents = parsed.get("Contents", [])
    assert list(page.keys) == [k for k, _, _ in rows]
    assert list(page.sizes) == [c["Size"] for c in contents]
    assert list(page.etags) == ["e"] * len(rows)
    assert list(page.mtimes_ns) == [round(c["LastModified"].timestamp() * 1e6) * 1000 for c in contents]
    assert list(page.prefixes) == prefixes
    assert token == ""


def test_names_that_a_server_left_to_xml() -> None:
    prefixes = "<CommonPrefixes><Prefix>R&amp;D/</Prefix></CommonPrefixes>"
    names = ["a&amp;amp;b%00", "it&#39;s%26+%2B", "c"]
    rows = [row(name, 1, "e", "2024-01-02T03:04:05.000Z") for name in names]
    read = read_list_page(document("".join(rows), prefixes))
    assert read is not None
    assert list(read[0].keys) == ["a&amp;b\0", "it's& +", "c"]
    assert list(read[0].prefixes) == ["R&D/"]


@pytest.mark.parametrize("name", ["a&#x41;b", "a&nbsp;b", "a&b"])
def test_entities_that_are_not_known_are_declined(name: str) -> None:
    assert read_list_page(document(row(name, 1, "e", "2024-01-02T03:04:05.000Z"))) is None
    assert read_list_page(document(row("a", 1, f"e{name}", "2024-01-02T03:04:05.000Z"))) is None


def test_continuation_token() -> None:
    tail = "<IsTruncated>true</IsTruncated><NextContinuationToken>1&amp;2/=</NextContinuationToken>"
    read = read_list_page(document(ROW, tail=tail))
    assert read is not None
    assert read[1] == "1&2/="


@pytest.mark.parametrize(
    "body",
    [
        document(""),
        document(ROW).replace(b"<EncodingType>url</EncodingType>", b""),
        document(ROW).replace(b"<IsTruncated>false</IsTruncated>", b""),
        document(ROW, tail="<IsTruncated>true</IsTruncated>"),
        document(ROW + ROW.replace("<ETag>&quot;e&quot;</ETag>", "")),
        document(ROW.replace("<Size>3</Size>", "<Size>three</Size>")),
        document(ROW.replace("2024-01-02T03:04:05.000Z", "yesterday")),
        document(ROW.replace("2024-01-02T03:04:05.000Z", "2024-01-02T03:04:05")),
        document(ROW.replace("Contents", "s3:Contents")),
        document(ROW, "<CommonPrefixes><Prefix>a/</Prefix><Prefix>b/</Prefix></CommonPrefixes>"),
        document(ROW).replace(b"<Key>a", b"<Key>\xff"),
        b"<html>sorry</html>",
        b"",
    ],
)
def test_declines_what_it_is_not_sure_of(body: bytes) -> None:
    assert read_list_page(body) is None


def test_a_row_is_read_in_any_order_of_its_columns() -> None:
    turned = (
        "<Contents><Size>3</Size><ETag>W/&quot;e&quot;</ETag><Key>a+b%2Bc</Key>"
        "<LastModified>1970-01-01T00:00:01Z</LastModified></Contents>"
    )
    read = read_list_page(document(turned))
    assert read is not None
    assert read[0] == ListPage(["a b+c"], [3], ["W/e"], [10**9], [])


def test_entities_once() -> None:
    assert unescape("&amp;quot;&quot;") == '&quot;"'


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
)
def test_nanoseconds_are_exact_to_the_microsecond(moment: datetime) -> None:
    exact = moment - datetime(1970, 1, 1, tzinfo=UTC)
    micro = (exact.days * 86400 + exact.seconds) * 10**6 + exact.microseconds
    assert nanoseconds(moment.isoformat()) == micro * 1000
