"""The threads for blocking calls: what they hold while they wait."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from ossmount.readahead.threads import ThreadPool


class Held:
    """Stands for what a job has fetched; tells when nobody refers to it any more."""

    def __init__(self, freed: threading.Event) -> None:
        self._freed = freed

    def __del__(self) -> None:
        self._freed.set()


def refuse(_: threading.Thread) -> None:
    """As ``Thread.start`` does where the system allows no more."""
    raise RuntimeError("can't start new thread")


def test_a_thread_that_waits_does_not_keep_its_last_job() -> None:
    pool = ThreadPool(1)
    freed = threading.Event()
    pool.submit(partial(id, Held(freed)))
    assert freed.wait(5)
    pool.close()


def test_where_no_more_threads_can_be_started_the_others_do_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPool(2)
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(5)

    pool.submit(wait)
    assert begun.wait(5)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool.submit(done.set)
    go_on.set()
    assert done.wait(5)
    pool.close()


def test_where_no_thread_can_be_started_at_all_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        ThreadPool(2).submit(lambda: None)
