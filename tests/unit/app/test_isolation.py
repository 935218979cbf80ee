"""Work in a forked child: results, errors and interrupts come back, and the child is gone."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossmount.app.isolation import in_child
from ossmount.errors import ManifestError, OssmountError, StoreUnavailable, decode_error, encode_error


def children() -> set[int]:
    """Children of this process, dead ones that nobody waited for included (servers of other tests too)."""
    return {
        int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()
    }


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def fail(error: BaseException) -> None:
    raise error


def test_the_result_comes_from_another_process() -> None:
    assert in_child(os.getpid) != os.getpid()
    assert in_child(lambda: {"large": b"x" * 1_000_000}) == {"large": b"x" * 1_000_000}


def test_an_error_keeps_its_kind_message_and_remedy() -> None:
    with pytest.raises(StoreUnavailable, match="no answer; wait") as caught:
        in_child(lambda: fail(StoreUnavailable("no answer", "wait")))
    assert caught.value.exit_status == 5
    assert (caught.value.message, caught.value.remedy) == ("no answer", "wait")


def test_an_error_with_a_constructor_of_its_own_survives_the_pipe() -> None:
    decoded = decode_error(encode_error(ManifestError("list.tsv", 7, "no path", "mend it")))
    assert isinstance(decoded, ManifestError)
    assert str(decoded) == "list.tsv:7: no path; mend it"


def test_an_unknown_kind_becomes_the_common_one() -> None:
    decoded = decode_error({"type": "FromTheFuture", "message": "m", "remedy": "r"})
    assert type(decoded) is OssmountError


def test_a_foreign_exception_is_told_as_a_failure() -> None:
    with pytest.raises(OssmountError, match="preparing failed: ZeroDivisionError"):
        in_child(lambda: 1 // 0)


def test_a_child_that_dies_is_noticed() -> None:
    with pytest.raises(OssmountError, match="the preparing process died"):
        in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_an_interrupted_child_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        in_child(lambda: fail(KeyboardInterrupt()))


def test_a_child_whose_cleanup_hangs_is_interrupted_again() -> None:
    """The parent alone gets the signal, while the child cleans up behind a wait that never ends."""
    ready, tell = os.pipe()
    cleaned, done = os.pipe()

    def hang() -> None:
        try:
            try:
                os.write(tell, b"!")
                threading.Event().wait()
            finally:
                threading.Event().wait()
        finally:
            os.write(done, b"clean")

    def interrupt() -> None:
        os.read(ready, 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        in_child(hang)
    thread.join()
    assert select.select([cleaned], [], [], 0)[0]
    for fd in (ready, tell, cleaned, done):
        os.close(fd)


def test_an_interrupt_within_the_fork_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the hooks of a fork, which swallow exceptions; another thread may take what this one blocks."""
    fork, forked = os.fork, threading.Event()

    def interrupt() -> None:  # in a thread from before, which blocks nothing
        forked.wait()
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()

    def fork_and_interrupt() -> int:
        if (pid := fork()) != 0:
            with contextlib.suppress(KeyboardInterrupt):
                forked.set()
                other.join()
        return pid

    monkeypatch.setattr(os, "fork", fork_and_interrupt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        in_child(threading.Event().wait)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_another_thread_took_is_noticed() -> None:
    """It does not interrupt what the main thread waits for; the system chooses the thread."""
    ready, tell = os.pipe()

    def hang() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.write(tell, b"!")
        threading.Event().wait()

    def interrupt() -> None:
        os.read(ready, 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(KeyboardInterrupt):
            in_child(hang)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    thread.join()
    for fd in (ready, tell):
        os.close(fd)


def test_a_child_that_cannot_be_started_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    before = len(list(Path("/proc/self/fd").iterdir()))
    handler, mask = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(OssmountError, match="no process can be started: Resource temporarily unavailable"):
        in_child(lambda: None)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert signal.getsignal(signal.SIGINT) == handler
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
