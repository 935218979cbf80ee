"""Fixtures of this folder stand in :mod:`tests.support.command_fixtures`, which other folders share."""

from tests.support.command_fixtures import home, s3_relay, trainer, trainers

__all__ = ["home", "s3_relay", "trainer", "trainers"]
