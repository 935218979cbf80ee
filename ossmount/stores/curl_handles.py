"""A libcurl handle with what holds for every request: one connection each, time-outs, no signals.

What their answers' heads say stands here, too. Touch it when a rule holds for transfers of bytes and of
listings alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import pycurl

from ossmount.config import StoreSettings
from ossmount.stores.authorities import authorities_for
from ossmount.stores.etags import plain_etag


def new_handle(settings: StoreSettings, receive_bytes: int) -> pycurl.Curl:
    """A handle with a buffer of ``receive_bytes``; a body that stands still for the time-out fails."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)
    # One connection for each request, not one for all.
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.USERAGENT, "ossmount")
    curl.setopt(pycurl.BUFFERSIZE, receive_bytes)
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(settings.connect_timeout * 1000))
    curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    curl.setopt(pycurl.LOW_SPEED_TIME, max(1, int(settings.request_timeout)))
    return curl


def trust(curl: pycurl.Curl, ca: str | None) -> None:
    """Believes whom a file vouches for; None: whom the environment or the system does."""
    file, folder = authorities_for(ca)
    curl.setopt(pycurl.CAINFO, file)
    if folder is None:
        curl.unsetopt(pycurl.CAPATH)
    else:
        curl.setopt(pycurl.CAPATH, folder)


def version_of(head: Iterable[bytes]) -> tuple[str, str]:
    """Which version the last answer of ``head`` is of, and which bytes: entity tag and Content-Range, "" for
    what there is not. Those of a proxy and of redirects come before it.
    """
    etag = content_range = ""
    for line in head:
        if line[:5] == b"HTTP/":
            etag = content_range = ""
        elif line[:5].lower() == b"etag:":
            etag = plain_etag(line[5:].strip().decode("latin-1"))
        elif line[:14].lower() == b"content-range:":
            content_range = line[14:].strip().decode("latin-1")
    return etag, content_range
