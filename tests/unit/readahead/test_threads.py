"""The threads for blocking calls: what they hold while they wait."""

from __future__ import annotations

import threading
from functools import partial

from ossmount.readahead.threads import ThreadPool


class Held:
    """Stands for what a job has fetched; tells when nobody refers to it any more."""

    def __init__(self, freed: threading.Event) -> None:
        self._freed = freed

    def __del__(self) -> None:
        self._freed.set()


def test_a_thread_that_waits_does_not_keep_its_last_job() -> None:
    pool = ThreadPool(1)
    freed = threading.Event()
    pool.submit(partial(id, Held(freed)))
    assert freed.wait(5)
    pool.close()
