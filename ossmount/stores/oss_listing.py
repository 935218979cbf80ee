"""One page of ListObjectsV2: what to ask, and what the answer says.

Own code because oss2 takes several times the CPU for a key, and opendal's lister loses what an index must
keep: the size of an object whose key ends in ``/``, and prefixes with empty components. What may live here:
the protocol's parameters and XML. Touch it when the listing protocol changes.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import NamedTuple
from urllib.parse import unquote

from ossmount.errors import StoreError, StoreUnavailable
from ossmount.model import ListPage
from ossmount.stores.list_xml import nanoseconds, next_token, read_list_page

PAGE_KEYS = 1000
"""Keys in a page, the most that OSS gives."""


class Page(NamedTuple):
    """A page and the token that asks for the next one ("" at the end)."""

    page: ListPage
    token: str


def page_parameters(prefix: str, start_after: str, delimiter: str, token: str) -> dict[str, str]:
    """The query of one request. Names travel percent-encoded: XML cannot carry every byte."""
    parameters = {"list-type": "2", "encoding-type": "url", "max-keys": str(PAGE_KEYS)}
    optional = {
        "prefix": prefix,
        "delimiter": delimiter,
        "continuation-token": token,
        "start-after": "" if token else start_after,
    }
    return parameters | {name: value for name, value in optional.items() if value}


def parse_page(document: bytes, subject: str) -> Page:
    """The page in an answer. Raises StoreUnavailable where it is not a listing, and as ``next_token``."""
    fast = read_list_page(document)
    if fast is not None:
        return Page(*fast)
    return parse_any_page(document, subject)


def parse_any_page(document: bytes, subject: str) -> Page:
    """The same with a real XML parser, for the forms that the fast reader declines."""
    try:
        # S314: expat bounds entity expansion itself, and the document comes from the user's own store.
        root = ElementTree.fromstring(document)  # noqa: S314
    except ElementTree.ParseError as error:
        raise StoreUnavailable(f"{subject}: the answer to LIST is not XML", "check --endpoint-url") from error
    if not root.tag.endswith("ListBucketResult"):
        raise StoreUnavailable(f"{subject}: {root.tag} is not an answer to LIST", "check --endpoint-url")
    space = root.tag.removesuffix("ListBucketResult")
    name = unquote if root.findtext(f"{space}EncodingType") == "url" else str
    rows = [{child.tag: child.text or "" for child in row} for row in root.iterfind(f"{space}Contents")]
    prefixes = root.iterfind(f"{space}CommonPrefixes/{space}Prefix")
    try:
        page = ListPage(
            keys=[name(row[f"{space}Key"]) for row in rows],
            sizes=[int(row[f"{space}Size"]) for row in rows],
            etags=[row.get(f"{space}ETag", "").strip('"') for row in rows],
            mtimes_ns=[nanoseconds(row[f"{space}LastModified"]) for row in rows],
            prefixes=[name(prefix.text or "") for prefix in prefixes],
        )
    except (KeyError, ValueError) as error:
        raise StoreError(
            f"{subject}: a row of the listing is not OSS's: {error!r}"[:300], "check --endpoint-url"
        ) from error
    truncated = root.findtext(f"{space}IsTruncated") == "true"
    token = root.findtext(f"{space}NextContinuationToken")
    return Page(page, next_token(truncated, token, subject))
