"""What a child tells the supervisor."""

from __future__ import annotations

import json
import os
from typing import Any, cast

import pytest

from ossmount.config import MountSettings
from ossmount.errors import AccessDenied, IndexDamaged, ManifestError, MountError, OssmountError
from ossmount.fuse.accept import Token
from ossmount.fuse.worker import Kind, Plan, _report_failure, _sole_cause, failure_of, report_ready


def reported(error: Exception | None) -> dict[str, Any]:
    """The message that comes out of the pipe."""
    reader, writer = os.pipe()
    plan = Plan(MountSettings(), cast("Any", None), None, cast("Any", None), Token(1), writer)
    if error is None:
        report_ready(plan, 3)
    else:
        _report_failure(plan, Kind.WORKER, 0, error)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    assert text.count(b"\n") == 1
    assert len(text) <= 4096, "a write of more than PIPE_BUF bytes may be torn"
    message: dict[str, Any] = json.loads(text)
    return message


def test_ready() -> None:
    assert reported(None) == {"ready": 3}


@pytest.mark.parametrize("error", [IndexDamaged("cut off", "build it again"), AccessDenied("no")])
def test_an_error_comes_back_as_it_was(error: OssmountError) -> None:
    found = failure_of(reported(error))
    assert type(found) is type(error)
    assert (found.message, found.remedy) == (error.message, error.remedy)


def test_an_error_that_cannot_be_made_again_keeps_its_words() -> None:
    found = failure_of(reported(ManifestError("labels.tsv", 3, "no tab", "see the manual")))
    assert type(found) is MountError
    assert str(found) == "labels.tsv:3: no tab; see the manual"


def test_a_bug_is_named() -> None:
    found = failure_of(reported(ZeroDivisionError("x / 0")))
    assert type(found) is MountError
    assert "worker 0: ZeroDivisionError('x / 0')" in found.message


def test_a_long_message_fits_the_pipe() -> None:
    assert failure_of(reported(IndexDamaged("ä" * 9000, "ö" * 9000))).message.startswith("ää")


def test_groups_around_one_error_are_taken_off() -> None:
    error = IndexDamaged("cut off")
    assert _sole_cause(ExceptionGroup("", [ExceptionGroup("", [error])])) is error
    two = ExceptionGroup("", [error, ValueError()])
    assert _sole_cause(two) is two
