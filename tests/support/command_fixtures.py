"""Fixtures of tests that run the real command. Touch it when a server joins them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.relay import Relay, relay_to
from tests.servers.s3 import S3Server
from tests.support.command import Home, command_home
from tests.support.trainer import Trainer


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home for commands; whatever the test does, nothing of it stays mounted or running."""
    with command_home(tmp_path / "home") as made:
        yield made


@pytest.fixture
def s3_relay(s3_gateway: S3Server) -> Iterator[Relay]:
    """A relay of this test alone to the S3 gateway."""
    with relay_to(s3_gateway.endpoint_url) as relay:
        yield relay


@pytest.fixture(scope="session")
def trainers() -> Iterator[list[Trainer]]:
    """The training program of this run, if there is one."""
    kept: list[Trainer] = []
    yield kept
    for trainer in kept:
        trainer.kill()


@pytest.fixture
def trainer(trainers: list[Trainer]) -> Trainer:
    """The training program; a new one where the last was killed for hanging."""
    pytest.importorskip("torch", reason="needs torch and torchvision")
    if not trainers or not trainers[-1].alive:
        trainers.append(Trainer())
    return trainers[-1]
