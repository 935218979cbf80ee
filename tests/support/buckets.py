"""Objects in test servers' buckets. Touch it when a server needs another way to make them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import botocore.exceptions

from tests.servers.oss_server import OssServer
from tests.servers.s3 import S3Server


def fill_s3(server: S3Server, bucket: str, objects: Mapping[str, bytes]) -> None:
    """Puts ``objects``; makes the bucket where it is missing."""
    client = server.client()
    with contextlib.suppress(botocore.exceptions.ClientError):
        client.create_bucket(Bucket=bucket)
    for key, data in objects.items():
        client.put_object(Bucket=bucket, Key=key, Body=data)


def fill_oss(server: OssServer, bucket: str, objects: Mapping[str, bytes]) -> None:
    """The same for OSS."""
    for key, data in objects.items():
        server.put(bucket, key, data)


def oss_options(server: OssServer) -> list[str]:
    """Options that lead the command to the server."""
    return ["--endpoint-url", server.endpoint_url, "--region", server.region]
