"""URIs of objects, split and joined. Pure text: nothing here looks whether a thing exists.

What may live here: the one rule how ``s3://bucket/key`` becomes a store's root and a key. Who may touch
it: whoever adds a scheme, together with a store for it. It imports the standard library and the errors.

Keys are raw text: nothing is percent-decoded, because object keys may contain ``%2E`` themselves. Only
``http(s)`` keys are what a server understands as path and query, that is, encoded as they stand.
"""

from __future__ import annotations

import os.path
import re

from ossmount.errors import SettingsError

BUCKET_SCHEMES = ("s3", "oss")
HTTP_SCHEMES = ("http", "https")
SCHEMES = (*BUCKET_SCHEMES, *HTTP_SCHEMES, "file")

FILE_ROOT = "file:///"
"""The one local store: its keys are absolute paths without the leading slash."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")
_KNOWN = "write s3://bucket/key, oss://bucket/key, https://host/path, file:///path or a local path"


def is_uri(text: str) -> bool:
    """Whether ``text`` begins with any scheme (known or not) and ``://``."""
    return _SCHEME.match(text) is not None


def parse_uri(uri: str) -> tuple[str, str]:
    """``(root, key)``: the store's root URI as in ``ObjectId.store``, and the key ("" for the root).

    ``s3://b/a/x`` → ``("s3://b", "a/x")``; ``file:///a/x`` and the local path ``/a/x`` →
    ``("file:///", "a/x")``; ``https://h/a?v=1`` → ``("https://h", "a?v=1")``. A relative local path
    belongs to the current directory. A trailing slash is kept. Raises SettingsError.
    """
    match = _SCHEME.match(uri)
    if match is None:
        return FILE_ROOT, _local_key(uri)
    scheme, rest = match[1].lower(), uri[match.end() :]
    if scheme in BUCKET_SCHEMES:
        return _bucket_and_key(uri, scheme, rest)
    if scheme in HTTP_SCHEMES:
        return _host_and_path(uri, scheme, rest)
    if scheme == "file":
        return FILE_ROOT, _file_key(uri, rest)
    raise SettingsError(f"{uri!r}: unknown scheme {scheme}://", _KNOWN)


def join_uri(root: str, key: str) -> str:
    """The inverse of :func:`parse_uri`."""
    return root + key if root.endswith("/") else f"{root}/{key}"


def shown_uri(uri: str) -> str:
    """``uri`` for messages, logs, descriptions: what may be secret in one of http(s) as dots.

    That is its query, which may be a signature, and a user with a password.
    """
    if not uri.lower().startswith(("http://", "https://")):
        return uri
    path, mark, _ = uri.partition("?")
    scheme, _, rest = path.partition("://")
    host, slash, key = rest.partition("/")
    user, at, name = host.rpartition("@")
    return f"{scheme}://{'...' if user else ''}{at}{name}{slash}{key}" + ("?..." if mark else "")


def shown_object(root: str, key: str) -> str:
    """The URI of an object for messages and logs, see :func:`shown_uri`."""
    return shown_uri(join_uri(root, key))


def _bucket_and_key(uri: str, scheme: str, rest: str) -> tuple[str, str]:
    bucket, _, key = rest.partition("/")
    if _BUCKET.fullmatch(bucket) is None:
        raise SettingsError(f"{uri!r} has no valid bucket name", f"write {scheme}://bucket/prefix/")
    return f"{scheme}://{bucket}", key


def _host_and_path(uri: str, scheme: str, rest: str) -> tuple[str, str]:
    # A fragment is the client's own business and never sent (RFC 9110, section 4.2.5).
    host, _, path = rest.partition("#")[0].partition("/")
    if _HOST.fullmatch(host) is None:
        raise SettingsError(f"{shown_uri(uri)!r} has no valid host", f"write {scheme}://host/path")
    return f"{scheme}://{host.lower()}", path


def _file_key(uri: str, rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise SettingsError(f"{uri!r} is not on this machine", "write file:///absolute/path")
    return path


def _local_key(path: str) -> str:
    if not path or "\0" in path:
        raise SettingsError(f"{path!r} is neither a URI nor a path", _KNOWN)
    absolute = os.path.abspath(path)  # noqa: PTH100 - Path would not keep what comes after
    trailing = "/" if path.endswith("/") and absolute != "/" else ""
    return absolute.lstrip("/") + trailing
