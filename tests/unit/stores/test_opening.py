"""Stores by URI, and the pool that keeps one of each."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ossmount.config import StoreSettings
from ossmount.errors import ObjectMissing, SettingsError
from ossmount.model import ObjectId
from ossmount.stores import StorePool, open_store, split_uri


@pytest.mark.parametrize(
    ("root", "kind"),
    [
        ("s3://bucket", "S3Store"),
        ("file:///", "FileStore"),
        ("http://h:1", "HttpStore"),
        ("https://h", "HttpStore"),
    ],
)
def test_scheme_decides(root: str, kind: str) -> None:
    store = open_store(root, StoreSettings())
    assert type(store).__name__ == kind
    assert store.uri == root
    store.close()


@pytest.mark.parametrize("uri", ["gs://bucket", "s3://", "s3://bucket/key", "https://h/x"])
def test_what_is_no_root(uri: str) -> None:
    with pytest.raises(SettingsError):
        open_store(uri, StoreSettings())


def test_split() -> None:
    assert split_uri("s3://b/a//x") == ("s3://b", "a//x")


def test_the_room_imports_no_sdk() -> None:
    code = "import sys, ossmount.stores; print({'boto3', 'oss2', 'obstore', 'urllib3'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_pool_keeps_one_store_for_each_root(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"data")
    pool = StorePool(StoreSettings())
    with ThreadPoolExecutor(16) as threads:
        stores = set(map(id, threads.map(pool, ["file:///"] * 64)))
    assert stores == {id(pool("file:///"))}
    store, key = pool("file:///"), f"{str(tmp_path)[1:]}/x"
    info = store.head(key)
    assert store.get_range(ObjectId(store.uri, key, info.etag, 4), 0, 4) == b"data"
    with pytest.raises(ObjectMissing):
        store.head(f"{key}y")
    statistics = pool.statistics()
    assert (statistics["get_requests"], statistics["get_bytes"]) == (1, 4)
    assert (statistics["head_requests"], statistics["head_errors"]) == (2, 1)
    pool.close()
    assert pool.statistics()["get_requests"] == 1


def test_empty_pool_counts_nothing() -> None:
    assert StorePool(StoreSettings()).statistics() == {}


def test_preparing_finds_out_what_a_read_needs() -> None:
    settings = StoreSettings(endpoint_url="http://127.0.0.1:9", region="us-east-1", no_sign_request=True)
    pool = StorePool(settings)
    pool.prepare(["s3://bucket"])
    store = pool.find("s3://bucket")
    assert store is not None
    assert store.describe(ObjectId("s3://bucket", "a b", "e", 5), 0, 5) is not None
    assert pool.find("s3://other") is None
    pool.close()


def test_what_cannot_be_prepared_is_left_to_the_first_read() -> None:
    pool = StorePool(StoreSettings())
    pool.prepare(["nothing://here", "s3://bucket/and/key"])
    with pytest.raises(SettingsError):
        pool("nothing://here")


def test_imports_for_forked_readers() -> None:
    code = (
        "import sys; from ossmount.stores import import_stores;"
        "import_stores(['s3://a', 'file:///', 'https://h']);"
        "print('obstore' in sys.modules, 'oss2' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["True", "False"]
