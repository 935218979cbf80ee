"""Starting a volume's process and hearing whether it serves (the other side of :mod:`ossmount.k8s.mounter`).

What may live here: one mount's start. Who may touch it: whoever changes the hand-shake.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ossmount.errors import MountError, decode_error
from ossmount.k8s.processes import Identity, identity_of, kill_group, reap

_KEPT_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "VIRTUAL_ENV", *_KEPT_AUTHORITIES)
_KEPT_PREFIXES = ("PYTHON", "OSSMOUNT_", "AWS_", "OSS_", "XDG_")
_KEPT_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Job:
    """What to mount where; ``options`` as text by option name."""

    sources: Sequence[str]
    mountpoint: str
    options: Mapping[str, str]

    def line(self) -> bytes:
        """As the process reads it."""
        fields = {"sources": list(self.sources), "mountpoint": self.mountpoint, "options": dict(self.options)}
        return json.dumps(fields).encode() + b"\n"


def base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a volume's process needs of the plugin's environment: the Pod's service variables are not."""
    return {
        name: value
        for name, value in environment.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.lower() in _KEPT_PROXIES
    }


def start(
    job: Job,
    environment: Mapping[str, str],
    *,
    started: Callable[[Identity], None] = lambda _: None,
    serving: Callable[[Identity], None] = lambda _: None,
    descriptor: int | None = None,
    given_up: int | None = None,
) -> Identity:
    """Starts the process, waits until it serves, and lets it go on; gives its identity.

    ``started`` is called as soon as there is a process, ``serving`` when it serves and has not been let go.
    ``descriptor`` is inherited under the same number. When ``given_up`` can be read nobody waits any more.
    Raises what kept it from serving (OssmountError), and what the callbacks raise; the process is dead then.
    """
    command_reader, command_writer = os.pipe2(os.O_CLOEXEC)
    answer_reader, answer_writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = _spawn(environment, command_reader, answer_writer, descriptor)
    finally:
        os.close(command_reader)
        os.close(answer_writer)
    process = identity_of(pid) or Identity(pid, 0)
    try:
        started(process)
        _write(command_writer, job.line())
        _hear(answer_reader, pid, given_up)
        serving(process)
        _write(command_writer, b"\n")
    except BaseException:
        kill_group(process)
        reap(pid)
        raise
    finally:
        os.close(command_writer)
        os.close(answer_reader)
    return process


def _spawn(environment: Mapping[str, str], stdin: int, stdout: int, descriptor: int | None) -> int:
    """posix_spawn instead of fork: the plugin has threads, and gRPC minds forks."""
    command = [sys.executable, "-m", "ossmount.k8s.mounter"]
    actions: list[tuple[int, int, int]] = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
    if descriptor is not None:
        # A descriptor that is duplicated onto itself is inherited (posix_spawn(3), adddup2).
        actions.append((os.POSIX_SPAWN_DUP2, descriptor, descriptor))
    return os.posix_spawn(sys.executable, command, dict(environment), file_actions=actions, setsid=True)


def _write(descriptor: int, text: bytes) -> None:
    """Raises MountError when the process is gone."""
    view = memoryview(text)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except BrokenPipeError:
        raise MountError("the mount's process died before it served", "see the driver's log") from None


def _hear(descriptor: int, pid: int, given_up: int | None) -> None:
    """Waits for the line that says how it went. Raises OssmountError."""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        if given_up is not None:
            selector.register(given_up, selectors.EVENT_READ)
        if descriptor not in {key.fd for key, _ in selector.select()}:
            raise MountError("the driver ended before the mount served", "the next driver is asked again")
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        line = stream.readline()
    if not line:
        reap(pid)
        raise MountError("the mount's process died before it served", "see the driver's log")
    message = json.loads(line)
    if "serving" not in message:
        raise decode_error(message["error"])
