"""What the OSS test server answers: faults with OSS's error codes, and the XML documents of the protocol.

What may live here: bytes made from values, no sockets and no storage. Touch it when the server learns an
operation. Source of the element names: the OSS API reference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import quote
from xml.sax.saxutils import escape

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


class Fault(Exception):
    """An error answer: HTTP status and OSS's error code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (without Content-Length) and body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    """Content-Length where it is not the body's (HEAD)."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One row of a listing."""

    key: str
    size: int
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class Listing:
    """One page: what was asked, what was found, and where to go on (``next`` is "" at the end)."""

    bucket: str
    prefix: str
    delimiter: str
    start: str
    max_keys: int
    objects: list[ListedObject]
    prefixes: list[str]
    next: str


def fault_answer(fault: Fault, request_id: str, host: str) -> Answer:
    """The error document."""
    body = (
        DECLARATION
        + (
            f"<Error><Code>{fault.code}</Code><Message>{escape(fault.message)}</Message>"
            f"<RequestId>{request_id}</RequestId><HostId>{escape(host)}</HostId></Error>"
        ).encode()
    )
    return Answer(fault.status, {"Content-Type": "application/xml"}, body)


def xml_answer(text: str) -> Answer:
    """A 200 with a document."""
    return Answer(200, {"Content-Type": "application/xml"}, DECLARATION + text.encode())


def http_date(seconds: float) -> str:
    """An HTTP date, whole seconds."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def iso_date(seconds: float) -> str:
    """The form of LastModified in listings."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def listing_v1(page: Listing, encoding: str) -> Answer:
    """ListBucketResult of GetBucket (ListObjects)."""
    text = encoder(encoding)
    return xml_answer(
        "<ListBucketResult>"
        f"{common(page, text, encoding)}<Marker>{text(page.start)}</Marker>"
        + (f"<NextMarker>{text(page.next)}</NextMarker>" if page.next else "")
        + rows(page, text)
        + "</ListBucketResult>"
    )


def listing_v2(page: Listing, encoding: str, token: str, next_token: str) -> Answer:
    """ListBucketResult of ListObjectsV2."""
    text = encoder(encoding)
    count = len(page.objects) + len(page.prefixes)
    return xml_answer(
        "<ListBucketResult>"
        f"{common(page, text, encoding)}<StartAfter>{text(page.start)}</StartAfter>"
        f"<KeyCount>{count}</KeyCount>"
        + (f"<ContinuationToken>{escape(token)}</ContinuationToken>" if token else "")
        + (f"<NextContinuationToken>{next_token}</NextContinuationToken>" if next_token else "")
        + rows(page, text)
        + "</ListBucketResult>"
    )


def encoder(encoding: str) -> Callable[[str], str]:
    """How names stand in a listing: percent-encoded, or escaped XML text."""
    return (lambda name: quote(name, safe="")) if encoding == "url" else escape


def common(page: Listing, text: Callable[[str], str], encoding: str) -> str:
    """The elements that both versions of a listing begin with."""
    return (
        f"<Name>{page.bucket}</Name><Prefix>{text(page.prefix)}</Prefix><MaxKeys>{page.max_keys}</MaxKeys>"
        f"<Delimiter>{text(page.delimiter)}</Delimiter>"
        + (f"<EncodingType>{encoding}</EncodingType>" if encoding else "")
        + f"<IsTruncated>{'true' if page.next else 'false'}</IsTruncated>"
    )


def rows(page: Listing, text: Callable[[str], str]) -> str:
    """Contents and CommonPrefixes."""
    return "".join(contents(page.objects, text)) + "".join(
        f"<CommonPrefixes><Prefix>{text(prefix)}</Prefix></CommonPrefixes>" for prefix in page.prefixes
    )


def contents(objects: Iterable[ListedObject], text: Callable[[str], str]) -> Iterable[str]:
    """One element for each object."""
    for row in objects:
        yield (
            f"<Contents><Key>{text(row.key)}</Key><LastModified>{iso_date(row.modified)}</LastModified>"
            f"<ETag>&quot;{row.etag}&quot;</ETag><Type>Normal</Type><Size>{row.size}</Size>"
            "<StorageClass>Standard</StorageClass></Contents>"
        )


def bucket_info(bucket: str, region: str) -> Answer:
    """BucketInfo of GetBucketInfo."""
    location = f"oss-{region}"
    return xml_answer(
        f"<BucketInfo><Bucket><Name>{bucket}</Name><Location>{location}</Location>"
        "<CreationDate>2024-01-01T00:00:00.000Z</CreationDate>"
        f"<ExtranetEndpoint>{location}.aliyuncs.com</ExtranetEndpoint>"
        f"<IntranetEndpoint>{location}-internal.aliyuncs.com</IntranetEndpoint>"
        "<StorageClass>Standard</StorageClass><Owner><ID>1</ID><DisplayName>1</DisplayName></Owner>"
        "<AccessControlList><Grant>private</Grant></AccessControlList></Bucket></BucketInfo>"
    )


def bucket_location(region: str) -> Answer:
    """LocationConstraint of GetBucketLocation."""
    return xml_answer(f"<LocationConstraint>oss-{region}</LocationConstraint>")
