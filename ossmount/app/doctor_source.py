"""What stands between this machine and a source: credentials, clock, endpoint, permissions.

What may live here: checks of a source, in the order in which one failing explains the next. Who may touch
it: whoever adds a kind of store or learns of one more thing that goes wrong there.
"""

from __future__ import annotations

import dataclasses
import email.utils
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from ossmount.app.finding import Finding
from ossmount.config import Settings, StoreSettings
from ossmount.errors import EmptySource, OssmountError
from ossmount.model import ObjectId, ObjectInfo
from ossmount.protocols import ObjectStore, OpenStore
from ossmount.uris import BUCKET_SCHEMES, FILE_ROOT, join_uri, parse_uri, shown_object

MAX_SKEW = 600.0
"""Seconds: S3 and OSS refuse signatures 15 minutes off; a third of that is margin."""

PATIENCE = 5.0
"""Seconds for a connection: a doctor that hangs is no doctor."""

SAMPLE = 4096
"""Bytes read of one object: enough to show the permission."""

_REMEDY_REACH = "check --endpoint-url, --region, the proxy variables and the network"
_REMEDY_TRUST = "name who vouches for it: AWS_CA_BUNDLE for s3://, SSL_CERT_FILE for oss:// and https://"


def check_source(source: str, settings: Settings, open_store: OpenStore | None = None) -> Iterator[Finding]:
    """Findings for ``source``, a URI or local path."""
    store = dataclasses.replace(
        settings.store, retries=1, connect_timeout=min(settings.store.connect_timeout, PATIENCE)
    )
    try:
        root, key = parse_uri(source)
    except OssmountError as error:
        yield _failed("source", error)
        return
    if root.partition("://")[0] in BUCKET_SCHEMES:
        yield _attempt("credentials", lambda: credentials_kind(root, store), "give credentials; see docs")
    if root != FILE_ROOT:
        yield from check_endpoint(root, store)
    yield from check_objects(root, key, open_store or _pool(store))


def _pool(settings: StoreSettings) -> OpenStore:
    from ossmount.stores import StorePool

    return StorePool(settings)


def _failed(name: str, error: OssmountError) -> Finding:
    return Finding(name, False, error.message, error.remedy)


def _attempt(name: str, work: Callable[[], str], remedy: str) -> Finding:
    """``work`` says what it found; ours and foreign errors become findings."""
    try:
        return Finding(name, True, work())
    except OssmountError as error:
        return _failed(name, error)
    except Exception as error:  # a check never raises: boto3 alone knows dozens of kinds
        return Finding(name, False, f"{type(error).__name__}: {error}", remedy)


def credentials_kind(root: str, settings: StoreSettings) -> str:
    """Where the credentials come from; never what they are. Raises OssmountError where there are none."""
    if settings.no_sign_request:
        return "none wanted: requests are not signed"
    if root.startswith("oss://"):
        from ossmount.stores.oss_credentials import choose_credentials

        chosen = choose_credentials(settings)
        chosen.current()
        return chosen.description
    from ossmount.errors import AccessDenied
    from ossmount.stores.s3_session import make_session

    found = make_session(settings).get_credentials()
    if found is None:
        raise AccessDenied(
            "no AWS credentials were found",
            "run 'aws configure', set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose --profile,"
            " or use --no-sign-request for a public bucket",
        )
    return f"found by {found.method}"


def endpoint_of(root: str, settings: StoreSettings) -> tuple[str, str | None]:
    """The URL that requests for ``root`` go to, and the file of authorities; None: the system's."""
    scheme, _, bucket = root.partition("://")
    if scheme == "oss":
        from ossmount.stores.oss_endpoint import resolve_endpoint

        return resolve_endpoint(bucket, settings).base_url, None
    if scheme == "s3":
        from ossmount.stores.s3_session import ca_bundle, make_client, make_session

        session = make_session(settings)
        region = settings.region or session.region_name or "us-east-1"
        return str(make_client(session, settings, region).meta.endpoint_url), ca_bundle(session)
    return root, None


def check_endpoint(root: str, settings: StoreSettings) -> Iterator[Finding]:
    """The endpoint answers at all, and its clock agrees with ours."""
    try:
        url, ca = endpoint_of(root, settings)
        date = server_date(url, ca)
    except OssmountError as error:
        yield _failed("endpoint", error)
        return
    except Exception as error:  # as above: foreign kinds without number
        yield Finding(
            "endpoint",
            False,
            f"{root} is not reached: {error}",
            _REMEDY_TRUST if "CERTIFICATE_VERIFY" in str(error) else _REMEDY_REACH,
        )
        return
    yield Finding("endpoint", True, f"{url} answers")
    yield clock_finding(date, time.time())


def server_date(url: str, ca: str | None = None) -> str | None:
    """The ``Date`` header of any answer, a refusal included. Raises OSError where nobody answers, or one
    whom nobody in ``ca`` (None: the system's file of authorities) vouches for.
    """
    from ossmount.stores.authorities import authorities_for

    if not url.startswith(("http://", "https://")):
        raise OSError(f"{url} is not an HTTP endpoint")
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - checked above
    file, folder = authorities_for(ca)
    trust = ssl.create_default_context(cafile=file, capath=folder)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE, context=trust) as answer:  # noqa: S310 - checked
            return str(answer.headers["Date"]) if "Date" in answer.headers else None
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.headers["Date"]


def clock_finding(date: str | None, now: float) -> Finding:
    """Compares a ``Date`` header with ``now`` (seconds since the epoch)."""
    if date is None:
        return Finding("clock", None, "the endpoint tells no time")
    skew = now - email.utils.parsedate_to_datetime(date).timestamp()
    if abs(skew) > MAX_SKEW:
        word = "ahead of" if skew > 0 else "behind"
        return Finding(
            "clock",
            False,
            f"this machine is {abs(skew):,.0f} s {word} the endpoint: signatures will be refused",
            "set the clock (timedatectl set-ntp true)",
        )
    return Finding("clock", True, f"within {abs(skew):,.0f} s of the endpoint's")


def check_objects(root: str, key: str, open_store: OpenStore) -> Iterator[Finding]:
    """Listing is permitted, and one object can be read."""
    try:
        store = open_store(root)
    except OssmountError as error:
        yield _failed("store", error)
        return
    found: list[ObjectInfo] = []
    yield _attempt("list", lambda: _list_one(store, key, found), "check the permission to list the bucket")
    if found:
        yield _attempt("read", lambda: _read_one(store, found[0]), "check the permission to read objects")


def _list_one(store: ObjectStore, key: str, found: list[ObjectInfo]) -> str:
    if store.uri.startswith("http"):
        found.append(store.head(key))
        return f"{shown_object(store.uri, key)} is there ({found[0].size:,} bytes)"
    where = join_uri(store.uri, key)
    for page in store.list(key):
        found.extend(info for info in page.objects() if info.size > 0)
        if found:
            return f"objects below {where} are listed, {found[0].key!r} for one"
    raise EmptySource(f"no object with content below {where}", "check the prefix, slash included")


def _read_one(store: ObjectStore, info: ObjectInfo) -> str:
    wanted = min(info.size, SAMPLE)
    target = ObjectId(store.uri, info.key, info.etag, info.size)
    uri = shown_object(store.uri, info.key)
    return f"{len(store.get_range(target, 0, wanted)):,} bytes of {uri} read"
