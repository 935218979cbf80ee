"""Failed reads: each is counted, and logged once per key and minute with what to do (SEMANTICS, Errors).

Only the file system reports here: it alone knows both the key and the error. Loop only.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from ossmount.errors import (
    AccessDenied,
    BucketMissing,
    DeadlineExceeded,
    ObjectChanged,
    ObjectMissing,
    OssmountError,
    StoreUnavailable,
)
from ossmount.model import ObjectId
from ossmount.uris import shown_object

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
"""The same failure of the same key is logged once in this time."""

REMEMBERED = 4096
"""Keys remembered; when more fail within a minute the oldest are forgotten and may be logged again."""

REMEDIES: tuple[tuple[type[OssmountError], str], ...] = (
    (ObjectChanged, "the object was replaced after indexing: run 'ossmount refresh'"),
    (ObjectMissing, "the object was deleted after indexing: run 'ossmount refresh'"),
    (AccessDenied, "check the credentials and the bucket's policy: run 'ossmount doctor'"),
    (BucketMissing, "check the bucket's name and the endpoint: run 'ossmount doctor'"),
    (DeadlineExceeded, "the store did not answer in time: run 'ossmount doctor', or raise --read-deadline"),
    (StoreUnavailable, "the store could not be reached: run 'ossmount doctor'"),
)
"""What a user can do, by error, where the error does not say it; the first class that fits."""


class Incidents:
    """Counts by error class and writes the log. ``clock`` gives seconds, from any start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: OrderedDict[tuple[str, str, type[Exception]], float] = OrderedDict()
        self._counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"Incidents({dict(self._counts)})"

    def statistics(self) -> dict[str, int]:
        """Failed reads by the name of their error."""
        return dict(self._counts)

    def report(self, target: ObjectId, error: OssmountError) -> bool:
        """Counts ``error``, met while ``target`` was read; True where a line was logged."""
        self._counts[type(error).__name__] += 1
        now, what = self._clock(), (target.store, target.key, type(error))
        last = self._logged.get(what)
        if last is not None and now - last < INTERVAL_SECONDS:
            return False
        self._remember(what, now)
        uri = shown_object(target.store, target.key)
        log.warning("cannot read %s: %s; %s", uri, error.message, remedy_of(error))
        return True

    def _remember(self, what: tuple[str, str, type[Exception]], now: float) -> None:
        self._logged[what] = now
        self._logged.move_to_end(what)
        if len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)


def remedy_of(error: OssmountError) -> str:
    """What the user can do about ``error``.

    A store does not know that the object comes from an index, so it cannot say what helps where the two
    differ.
    """
    if error.remedy and not isinstance(error, ObjectChanged | ObjectMissing):
        return error.remedy
    return next((text for cls, text in REMEDIES if isinstance(error, cls)), "run 'ossmount doctor'")
