"""boto3 set up from StoreSettings: session, client, the bucket's base URL, its region.

What may live here: what turns settings into boto3's configuration. boto3 alone knows credentials,
profiles, endpoints and addressing; nothing here reads them from anywhere else.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore
import botocore.config
from botocore.exceptions import BotoCoreError, ClientError

from ossmount.config import StoreSettings
from ossmount.stores.authorities import authorities_file, read_authorities
from ossmount.stores.s3_errors import from_boto

S3Client = Any
"""A boto3 client. boto3 makes its classes while it runs, so there is no class to name."""

FALLBACK_REGION = "us-east-1"
"""Where a request is signed for when nobody names a region: every S3 compatible server accepts it, and
AWS answers from there with the bucket's true one."""

POOL = 128
"""Connections that boto3 keeps: as many as the fetcher's requests in flight (``max_requests``)."""

_PROBE_KEY = "x"


def make_session(settings: StoreSettings) -> boto3.session.Session:
    """A session of the profile in the settings. Raises SettingsError (unknown profile, no certificates)."""
    try:
        session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
        bundle = ca_bundle(session)
    except BotoCoreError as error:
        raise from_boto(error, "") from error
    if bundle is not None and not settings.plain_endpoint:
        read_authorities(bundle, "AWS_CA_BUNDLE, ca_bundle of the profile, or REQUESTS_CA_BUNDLE")
    return session


def make_client(session: boto3.session.Session, settings: StoreSettings, region: str) -> S3Client:
    """A client that never retries by itself: the Retrying wrapper owns retries."""
    options: dict[str, Any] = {
        "s3": {"addressing_style": settings.addressing_style},
        "signature_version": botocore.UNSIGNED if settings.no_sign_request else "s3v4",
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": settings.connect_timeout,
        "read_timeout": settings.request_timeout,
        "max_pool_connections": POOL,
        "user_agent_extra": "ossmount",
    }
    try:
        return session.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=region,
            config=botocore.config.Config(**options),
            verify=ca_bundle(session) or authorities_file(),
        )
    except (BotoCoreError, ValueError) as error:
        raise from_boto(error, "") from error


def is_aws(client: S3Client) -> bool:
    """Whether the endpoint (from settings, environment or profile) is Amazon's own, which has regions."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


class _Asked(Exception):
    """Carries the URL of a request that was made ready and is not sent."""


def base_url(client: S3Client, bucket: str) -> str:
    """The URL under which boto3 finds the bucket's keys, without a trailing slash. Sends nothing.

    boto3 is asked instead of imitated: endpoint variables, profiles, dual stack, FIPS, acceleration and
    the addressing style all decide it. (Its presigned URLs would not do: they name the global endpoint.)
    ``client`` can make no other requests afterwards.
    """

    def stop(request: Any, **_: Any) -> None:
        raise _Asked(request.url)

    client.meta.events.register("before-send.s3.HeadObject", stop)
    try:
        client.head_object(Bucket=bucket, Key=_PROBE_KEY)
    except _Asked as asked:
        return str(asked).partition("?")[0].removesuffix(f"/{_PROBE_KEY}")
    except (BotoCoreError, ClientError) as error:
        raise from_boto(error, bucket) from error
    raise AssertionError("botocore sent a request that was stopped")


def ca_bundle(session: boto3.session.Session) -> str | None:
    """The file of authorities that is configured for AWS, if there is one (the order is botocore's).

    Without one botocore would take a list of its own; here all clients believe whom the machine believes.
    """
    value = session._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return value if isinstance(value, str) else None


def discover_region(client: S3Client, bucket: str) -> str:
    """The bucket's region as AWS tells it, even to those who may not read the bucket.

    Raises BucketMissing, AccessDenied (no region in the answer), StoreUnavailable.
    """
    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
        if region := headers.get("x-amz-bucket-region"):
            return str(region)
        raise from_boto(error, bucket) from error
    except BotoCoreError as error:
        raise from_boto(error, bucket) from error
    headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region") or FALLBACK_REGION)
