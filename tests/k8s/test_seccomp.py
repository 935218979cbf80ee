"""The filter of system calls under which the sidecars of all these tests run: it is what refuses."""

from __future__ import annotations

import errno
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.csi import needs_root
from tests.support.sidecar import SECCOMP, container

pytestmark = needs_root

ATTEMPTS = """
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def attempt(function, *arguments):
    ctypes.set_errno(0)
    return 0 if function(*arguments) >= 0 else ctypes.get_errno()

def numbered(number, *arguments):
    return attempt(libc.syscall, number, *arguments)

def vsock():
    try:
        socket.socket(40, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno
    return 0

print(json.dumps({
    "getpid": numbered(39),
    "clone3": numbered(435, None, 0),
    "unshare": numbered(272, 0),
    "setns": numbered(308, -1, 0),
    "kcmp": numbered(312, os.getpid(), os.getpid(), 1, 0, 0),
    "io_uring_setup": numbered(425, 0, None),
    "get_mempolicy": numbered(239, None, None, 0, None, 0),
    "add_key": numbered(248, None, None, None, 0, 0),
    "keyctl": numbered(250, -1),
    "personality": numbered(135, 0x40000),
    "vsock": vsock(),
}))
"""
"""Calls with arguments that are harmless or senseless, so that only a filter answers EPERM to an unprivileged
program. Numbers are those of x86-64."""


def attempts(empty_dir: Path, seccomp: tuple[str, ...]) -> dict[str, int]:
    """The errno of each attempt in the container, 0 where it succeeded."""
    command = container(empty_dir, sys.executable, "-c", ATTEMPTS, seccomp=seccomp)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd="/")
    return {name: int(number) for name, number in json.loads(ran.stdout).items()}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the calls are those of x86-64")
def test_the_filter_and_nothing_else_refuses(tmp_path: Path) -> None:
    filtered, free = attempts(tmp_path, SECCOMP), attempts(tmp_path, ())
    assert errno.EPERM not in free.values()
    assert free["clone3"] == errno.EINVAL
    assert filtered.pop("getpid") == 0
    assert filtered.pop("clone3") == errno.ENOSYS
    assert filtered == dict.fromkeys(filtered, errno.EPERM)
