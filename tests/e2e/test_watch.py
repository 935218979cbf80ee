"""``ossmount stats --watch`` in a terminal, on a mount whose store takes its time.

Touch it when the live view shows something else that only a real mount has.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.servers.oss_server import OssServer
from tests.support.buckets import fill_oss, oss_options
from tests.support.command import Home
from tests.support.mounting import needs_fuse

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "watched"
LENGTH = 1 << 20
FILES = {f"class_{i % 2}/{i}.jpg": bytes([i]) * LENGTH for i in range(4)}
SHOWN_SECONDS = 20.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(slots=True)
class Terminal:
    """A terminal of 100 columns and the command that writes to it."""

    descriptor: int
    process: subprocess.Popen[bytes]
    seen: str = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """What the pattern finds in all that was shown so far, or will be."""
        deadline = time.monotonic() + SHOWN_SECONDS
        while (found := re.search(pattern, self.seen)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern} was never shown:\n{self.seen[-4000:]}"
            self._read(left)
        return found

    def interrupt(self) -> int:
        """Ctrl-C; the exit status. What is still written has to be read, or the command waits for that."""
        os.write(self.descriptor, b"\x03")
        deadline = time.monotonic() + SHOWN_SECONDS
        while (status := self.process.poll()) is None:
            assert time.monotonic() < deadline, self.seen[-4000:]
            self._read(0.05)
        return status

    def _read(self, seconds: float) -> None:
        if select.select([self.descriptor], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
                text = os.read(self.descriptor, 1 << 16).decode(errors="replace")
                self.seen += ESCAPES.sub("", text)


@contextlib.contextmanager
def terminal(home: Home, *words: str) -> Iterator[Terminal]:
    ours, theirs = os.openpty()
    variables = {**home.variables(), "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    command = [sys.executable, "-m", "ossmount", *words]
    # A session of its own, whose terminal this becomes: Ctrl-C is a signal only there.
    process = subprocess.Popen(
        ["setsid", "--ctty", *command], env=variables, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()  # nothing where it has ended
        process.wait()
        os.close(ours)


def test_rates_hits_and_what_is_being_fetched(home: Home, oss: OssServer) -> None:
    fill_oss(oss, BUCKET, FILES)
    alone = ["--readahead", "off", "--workers", "1"]
    mount = home.mount(*oss_options(oss), *alone, f"oss://{BUCKET}/", env=oss.environment())
    oss.state.latency = 1.0
    with terminal(home, "stats", "--watch", str(mount.path)) as shown, ThreadPoolExecutor(1) as reader:
        shown.wait_for(f"ossmount {re.escape(str(mount.path))[:40]}")
        shown.wait_for(r"received +0 B/s")
        whole = reader.submit(lambda: [(mount.path / name).read_bytes() for name in FILES])
        key = shown.wait_for(r"class_\d/\d\.jpg").group()
        assert key in FILES
        shown.wait_for(r"in flight +1 of")
        shown.wait_for(r"GET +1/s")
        shown.wait_for(r"received +[\d,.]+ [KM]iB/s")
        shown.wait_for(r"read +[\d,.]+ [KM]iB/s")
        shown.wait_for(r"store +\d+ % +━")
        shown.wait_for(r"page cache +0 %")
        assert whole.result(30) == list(FILES.values())
        oss.state.latency = 0.0
        assert shown.interrupt() == 0
    mount.umount()
    assert home.left_behind() == []
