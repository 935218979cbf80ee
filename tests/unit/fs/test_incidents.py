from __future__ import annotations

import logging

import pytest

from ossmount.errors import AccessDenied, ObjectChanged, ObjectMissing, StoreError
from ossmount.fs.incidents import INTERVAL_SECONDS, REMEMBERED, Incidents, remedy_of
from ossmount.model import ObjectId

CAT, DOG = ObjectId("s3://b", "cat", "e", 1), ObjectId("s3://b", "dog", "e", 1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_line_a_key_an_error_and_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    incidents = Incidents(clock)
    with caplog.at_level(logging.WARNING):
        assert incidents.report(CAT, ObjectChanged("has ETag f, not e"))
        assert not incidents.report(CAT, ObjectChanged("has ETag f, not e"))
        assert incidents.report(CAT, AccessDenied("403"))
        assert incidents.report(DOG, ObjectChanged("has ETag f, not e"))
        clock.now += INTERVAL_SECONDS
        assert incidents.report(CAT, ObjectChanged("has ETag f, not e"))
    assert len(caplog.records) == 4
    assert "s3://b/cat" in caplog.messages[0]
    assert "ossmount refresh" in caplog.messages[0]
    assert incidents.statistics() == {"ObjectChanged": 4, "AccessDenied": 1}


def test_the_errors_own_remedy_comes_first() -> None:
    assert remedy_of(AccessDenied("403", "renew the token")) == "renew the token"
    assert "doctor" in remedy_of(StoreError("odd"))


def test_what_changed_under_an_index_is_to_be_refreshed_whatever_the_store_says() -> None:
    assert "ossmount refresh" in remedy_of(ObjectMissing("gone", "check the key"))


def test_a_local_file_is_named_by_a_uri_that_can_be_pasted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Incidents(Clock()).report(ObjectId("file:///", "data/cat", "e", 1), ObjectMissing("gone"))
    assert "cannot read file:///data/cat: gone; " in caplog.messages[0]


def test_a_signature_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Incidents(Clock()).report(ObjectId("https://h", "cat?sig=SECRET", "e", 1), ObjectMissing("gone"))
    assert "cannot read https://h/cat?...: gone; " in caplog.messages[0]


def test_memory_is_bounded_by_forgetting_the_oldest() -> None:
    incidents = Incidents(Clock())
    for i in range(REMEMBERED + 1):
        assert incidents.report(CAT._replace(key=str(i)), AccessDenied("403"))
    assert incidents.report(CAT._replace(key="0"), AccessDenied("403"))
    assert not incidents.report(CAT._replace(key=str(REMEMBERED)), AccessDenied("403"))
