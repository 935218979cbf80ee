"""Which host serves a bucket, and how the bucket stands in the URL.

What may live here: pure decisions from settings. Touch it when OSS gets new kinds of endpoints.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from ossmount.config import StoreSettings
from ossmount.errors import SettingsError

_OSS_HOST = re.compile(
    r"oss-(?!accelerate|data-acc|cache-|accesspoint)([a-z0-9-]+?)(-internal)?(\.aliyuncs\.com)"
)
"""``oss-cn-hangzhou.aliyuncs.com`` and ``oss-cn-hangzhou-internal.aliyuncs.com``. Endpoints of acceleration,
of the accelerator and of access points name no region here, and have no internal form of this kind."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""OSS's rules for bucket names."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a bucket is. ``style`` is ``virtual``, ``path`` or ``cname``; ``region`` "" when unknown."""

    bucket: str
    scheme: str
    netloc: str
    style: str
    region: str

    @property
    def base_url(self) -> str:
        """The endpoint without the bucket, as oss2 wants it."""
        return f"{self.scheme}://{self.netloc}"

    def url(self, key: str) -> str:
        """The URL of an object, or of the bucket where ``key`` is "".

        Slashes are encoded too, as oss2 does: the server decodes them, and HTTP clients, which would remove
        ``./`` and ``../`` and so ask for another object, leave them alone.
        """
        path = quote(key, safe="")
        if self.style == "virtual":
            return f"{self.scheme}://{self.bucket}.{self.netloc}/{path}"
        if self.style == "cname":
            return f"{self.base_url}/{path}"
        return f"{self.base_url}/{self.bucket}/{path}"


def resolve_endpoint(bucket: str, settings: StoreSettings) -> Endpoint:
    """The endpoint for ``bucket``. Raises SettingsError."""
    if not _BUCKET.fullmatch(bucket):
        raise SettingsError(
            f"oss://{bucket}: {bucket!r} cannot be a bucket", "3 to 63 small letters, digits and hyphens"
        )
    scheme, netloc = _host(bucket, settings)
    if settings.oss_internal:
        netloc = _OSS_HOST.sub(r"oss-\1-internal\3", netloc)
    region = (settings.region or "").removeprefix("oss-")
    found = _OSS_HOST.search(netloc)
    if not region and found is not None:
        region = found[1]
    if settings.oss_signature == "v4" and not region and not settings.no_sign_request:
        raise SettingsError(
            f"oss://{bucket}: the region is not known from the endpoint {netloc}, and signature V4 needs it",
            "give --region (such as cn-hangzhou)",
        )
    return Endpoint(bucket, scheme, netloc, _style(netloc, settings), region)


def _host(bucket: str, settings: StoreSettings) -> tuple[str, str]:
    if settings.endpoint_url:
        text = settings.endpoint_url
        try:
            parts = urlsplit(text if "://" in text else f"https://{text}")
            host = parts.hostname if parts.port != 0 else None
        except ValueError:  # a bracket without its end, or a port that is none
            host = None
        if not host or parts.scheme not in {"http", "https"} or parts.path.strip("/"):
            raise SettingsError(f"{text!r} is not an endpoint", "give scheme and host, without a path")
        return parts.scheme, parts.netloc
    if settings.region:
        return "https", f"oss-{settings.region.removeprefix('oss-')}.aliyuncs.com"
    raise SettingsError(
        f"oss://{bucket}: neither region nor endpoint is known",
        "give --region (such as cn-hangzhou) or --endpoint-url",
    )


def _style(netloc: str, settings: StoreSettings) -> str:
    if settings.oss_cname:
        return "cname"
    if settings.addressing_style == "path" or _has_no_subdomains(netloc):
        return "path"
    return "virtual"


def _has_no_subdomains(netloc: str) -> bool:
    """True for addresses and ``localhost``: a bucket cannot be put before them (oss2 agrees)."""
    host = urlsplit(f"//{netloc}").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
