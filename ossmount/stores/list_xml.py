"""Pages of ListObjectsV2 read from their XML, column by column.

What may live here: the fast reading of the one answer that comes by the hundred thousand rows, and what
slower readers must ask as well. S3 and OSS use the same document. Touch it when a server is found whose
pages it declines.

It reads only pages whose keys are URL-encoded (``encoding-type=url``): no text in them can then contain
markup, so columns may be cut out by regular expressions at 1 µs a row, where botocore's general parser
takes 65. Nothing else may be done row by row here: what rows have in common (quotes of the tags, escapes of
the keys, minutes of the times) is looked for in all of them at once. Whatever it is not sure of it declines,
and the SDK's own parser reads that page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_plus

from ossmount.errors import Unlistable
from ossmount.model import ListPage
from ossmount.stores.etags import plain_etag

_URL_ENCODED = re.compile(r"<EncodingType>\s*url\s*</EncodingType>")
_KEY = re.compile(r"<Key>([^<]+)</Key>")
_SIZE = re.compile(r"<Size>(\d+)</Size>")
_ETAG = re.compile(r"<ETag>([^<]+)</ETag>")
_MODIFIED = re.compile(r"<LastModified>([^<]+)</LastModified>")
_PREFIX = re.compile(r"<CommonPrefixes>\s*<Prefix>([^<]+)</Prefix>\s*</CommonPrefixes>")
_TRUNCATED = re.compile(r"<IsTruncated>\s*(true|false)\s*</IsTruncated>")
_NO_KEYS = re.compile(r"<KeyCount>\s*0\s*</KeyCount>")
_END = "</ListBucketResult>"
"""A connection that breaks off may be all that ends a body without a length."""
_TOKEN = re.compile(r"<NextContinuationToken>([^<]+)</NextContinuationToken>")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WHOLE_MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
_SECONDS_OF_MINUTE = re.compile(r":([0-5]\d)(?:\.(\d{3}))?Z")
_QUOTES = ("&quot;", "&#34;", '"')
_JOINT = "\0"
"""Stands between the values of a column: XML cannot hold it, and a key's must be written ``%00``."""
_REMEMBERED = 100_000
"""Parts of times that are remembered: minutes of seventy days, or a minute's milliseconds; some 10 MB."""
_ENTITY = re.compile("&(?:quot|#34|lt|gt|apos|#39|amp);")
_ENTITIES = {"&quot;": '"', "&#34;": '"', "&lt;": "<", "&gt;": ">", "&apos;": "'", "&#39;": "'", "&amp;": "&"}


def read_list_page(body: bytes) -> tuple[ListPage, str] | None:
    """The page and its continuation token ("" on the last page), or None where the reader is not sure."""
    try:
        text = body.decode("utf-8")
        return _read(text)
    except ValueError:  # not UTF-8, or a date in another form
        return None


def _read(text: str) -> tuple[ListPage, str] | None:
    truncated = _TRUNCATED.search(text)
    if truncated is None or _URL_ENCODED.search(text) is None or _JOINT in text:
        return None
    rows = text.count("<Contents>")
    columns = [_column(text, pattern, rows) for pattern in (_KEY, _SIZE, _ETAG, _MODIFIED)]
    # Looking for what is not there would take longer than finding a column.
    groups = text.count("<CommonPrefixes>")
    prefixes = _column(text, _PREFIX, groups) if groups else []
    token = _TOKEN.search(text)
    more = truncated[1] == "true"
    if (
        prefixes is None
        or None in columns
        or (more and token is None)
        or not text.rstrip().endswith(_END)
        or not (rows or prefixes or _is_empty(text))
    ):
        return None
    keys, sizes, etags, modified = (column or [] for column in columns)
    page = ListPage(
        _plain_names(keys),
        list(map(int, sizes)),
        _plain_etags(etags),
        _times(modified),
        _plain_names(prefixes),
    )
    return page, unescape(token[1]) if more and token else ""


def next_token(truncated: bool, token: str | None, subject: str) -> str:
    """What asks for the page after this one; "" after the last.

    Raises Unlistable where there are more and nothing asks for them: a server that only knows the first
    version of ListObjects answers so, and the rest of the listing must not be left out in silence.
    """
    if not truncated:
        return ""
    if not token:
        raise Unlistable(
            f"{subject}: the listing goes on, but the store does not say how: it does not know ListObjectsV2",
            "name the objects with --manifest or --objects",
        )
    return token


def _is_empty(text: str) -> bool:
    """Whether a page without rows is one, and not one in a form that was not recognised."""
    return _NO_KEYS.search(text) is not None and "Contents" not in text and "CommonPrefixes" not in text


def _column(text: str, pattern: re.Pattern[str], rows: int) -> list[str] | None:
    """All matches, or None unless there is exactly one for each row."""
    found: list[str] = pattern.findall(text)
    return found if len(found) == rows else None


def _plain_names(column: list[str]) -> list[str]:
    """URL-encoded names decoded, all at once: an escape never reaches across the joint."""
    joined = _JOINT.join(column)
    if "&" in joined:  # some servers leave it as it is, and then it is XML's to encode
        joined = unescape(joined)
        column = joined.split(_JOINT)
    if "%2F" in joined:  # what most servers encode most
        joined = joined.replace("%2F", "/")
    elif "%" not in joined and "+" not in joined:
        return column
    if "%" not in joined and "+" not in joined:
        return joined.split(_JOINT)
    if "%00" in joined:
        return list(map(unquote_plus, column))
    return unquote_plus(joined).split(_JOINT)


def _plain_etags(column: list[str]) -> list[str]:
    """Tags without quotes, at once for the forms that S3 and its kin write them in."""
    joined = _JOINT.join(column)
    for quote in _QUOTES:
        between = quote + _JOINT + quote
        if (
            joined.startswith(quote)
            and joined.endswith(quote)
            and joined.count(between) == len(column) - 1
            and joined.count(quote) == 2 * len(column) == joined.count(quote[0])
        ):
            return joined[len(quote) : -len(quote)].split(between)
    return [plain_etag(unescape(etag)) for etag in column]


def _times(column: Sequence[str]) -> list[int]:
    """Nanoseconds of all times; each is worked out once. Raises ValueError."""
    known = {text: _time(text) for text in set(column)}
    return [known[text] for text in column]


class _Minutes(dict[str, int]):
    """Nanoseconds at the beginning of ``2024-01-02T03:04``."""

    def __missing__(self, minute: str) -> int:
        if _WHOLE_MINUTE.fullmatch(minute) is None:
            raise ValueError(f"{minute} is no minute")
        value = nanoseconds(minute + "Z")
        if len(self) < _REMEMBERED:
            self[minute] = value
        return value


class _Seconds(dict[str, int]):
    """Nanoseconds of ``:05.123Z`` behind a minute."""

    def __missing__(self, rest: str) -> int:
        match = _SECONDS_OF_MINUTE.fullmatch(rest)
        if match is None:
            raise ValueError(f"{rest} is in another form")
        value = int(match[1]) * 1_000_000_000 + int(match[2] or "0") * 1_000_000
        if len(self) < _REMEMBERED:
            self[rest] = value
        return value


_minutes, _seconds = _Minutes(), _Seconds()
_MINUTE_LENGTH = len("2024-01-02T03:04")


def _time(text: str) -> int:
    try:
        return _minutes[text[:_MINUTE_LENGTH]] + _seconds[text[_MINUTE_LENGTH:]]
    except ValueError:
        return nanoseconds(text)


def unescape(text: str) -> str:
    """XML's five entities replaced (the only ones a name, an ETag or a token needs). Raises ValueError for
    any other.
    """
    if "&" in _ENTITY.sub("", text):
        raise ValueError(f"an entity in {text[:80]!r} is not one of XML's five")
    return _ENTITY.sub(lambda match: _ENTITIES[match[0]], text)


def nanoseconds(iso: str) -> int:
    """``2024-01-02T03:04:05.123Z`` in nanoseconds since the epoch. Raises ValueError."""
    moment = datetime.fromisoformat(iso)
    if moment.tzinfo is None:
        raise ValueError(f"{iso} has no time zone")
    return (moment - _EPOCH) // _MICROSECOND * 1000
