"""One pull of an index at a time: mounts of a job start together, and the first fetches for all.

What may live here: the lock. Who may touch it: whoever changes who waits for whom.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ossmount.errors import CacheError
from ossmount.model import Progress
from ossmount.places import is_still
from ossmount.protocols import Report


@contextmanager
def pulling_alone(uri: str, parts: Path, report: Report) -> Iterator[None]:
    """Makes ``parts`` and locks it for ``uri``: of several pulls of one index the others wait, and find it.

    Who ends removes what is empty. On a file system without locks all go on at once. Raises CacheError.
    """
    lock = parts / f".{hashlib.blake2b(uri.encode('utf-8', 'surrogateescape'), digest_size=12).hexdigest()}"
    while (descriptor := _locked(lock, report)) is None:
        pass  # whom this one waited for has removed it
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        with suppress(OSError):
            parts.rmdir()
        os.close(descriptor)


def _locked(lock: Path, report: Report) -> int | None:
    """The descriptor that holds the lock; None where another file has that name by now."""
    try:
        lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CacheError(
            f"cannot keep the parts of a pull in {lock.parent}: {error.strerror}",
            "name a writable directory with --cache-dir",
        ) from error
    with suppress(OSError):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(Progress("waiting for another pull of it", 0, None, "bytes"))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    if is_still(descriptor, lock):
        return descriptor
    os.close(descriptor)
    return None
