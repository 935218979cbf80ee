"""Publishing and unpublishing volumes: what the Node service decides, without gRPC.

What may live here: the order of steps, and what a repeated, concurrent or half-done call finds. Who may
touch it: whoever has read the specification's NodePublishVolume and NodeUnpublishVolume. Nothing here
touches a mount that may not serve; what is mounted stands in mountinfo.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ossmount.errors import OssmountError
from ossmount.fuse.mountpoint import FILESYSTEM_TYPE, mounted_at, unmount
from ossmount.k8s.attributes import TOKENS_KEY, Policy, Serve, wanted
from ossmount.k8s.credentials import Credentials, credentials_of
from ossmount.k8s.locks import OperationLocks
from ossmount.k8s.probing import Condition, Prober, Usage
from ossmount.k8s.processes import is_alive
from ossmount.k8s.publication import Publication
from ossmount.k8s.refusal import Code, Refusal, code_of, without_secrets
from ossmount.k8s.serving import ServeByNode, ServeBySidecar
from ossmount.k8s.state import Phase, Record, State

log = logging.getLogger(__name__)

MULTIPLE = frozenset({"SINGLE_NODE_MULTI_WRITER", "MULTI_NODE_READER_ONLY", "MULTI_NODE_SINGLE_WRITER"})
"""Access modes under which a volume may have several targets on a node (table of NodePublishVolume)."""

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Report:
    """What NodeGetVolumeStats tells; no usage where the mount does not serve."""

    usage: Usage | None
    abnormal: bool
    message: str


class Volumes:
    """The volumes of this node. Thread-safe."""

    def __init__(self, state: State, policy: Policy, node: ServeByNode, sidecar: ServeBySidecar) -> None:
        self._state = state
        self._policy = policy
        self._ways: dict[Serve, ServeByNode | ServeBySidecar] = {Serve.NODE: node, Serve.SIDECAR: sidecar}
        self._locks = OperationLocks()
        self._claiming = threading.Lock()
        self._prober = Prober()

    def __repr__(self) -> str:
        return f"<Volumes {self._state!r} {self._locks!r}>"

    # -- publish ----------------------------------------------------------------------------------

    def publish(self, call: Publication) -> None:
        """NodePublishVolume. Raises Refusal; nothing of a refused publish is left."""
        ask = wanted(call.context, call.flags, self._policy)
        secrets = dict(call.secrets)
        tokens = secrets.pop(TOKENS_KEY, "") or call.context.get(TOKENS_KEY, "")
        credentials = credentials_of(secrets, tokens, ask.role_arn)
        target = place_of(call.target)
        with self._locks.hold(target), _translated(credentials):
            found = self._state.read(target)
            if found is not None and self._is_done(found, call, credentials):
                return
            _check_target(Path(target))
            record = Record(
                call.volume_id,
                target,
                call.arguments(),
                call.mode,
                ask.serve,
                ask.sources,
                ask.options,
                ask.tenant,
            )
            self._claim(record)
            self._carry_out(record, credentials)

    def _is_done(self, found: Record, call: Publication, credentials: Credentials) -> bool:
        """True where the target is published already; renews its credentials. Undoes what is not whole."""
        if found.volume_id != call.volume_id:
            raise Refusal(Code.ALREADY_EXISTS, f"{found.target} is in use by volume {found.volume_id!r}")
        if found.phase is Phase.PUBLISHING:
            self._undo(found.target, found)
            return False
        if found.arguments != call.arguments():
            raise Refusal(
                Code.ALREADY_EXISTS,
                f"volume {call.volume_id!r} is published at {found.target} with other arguments",
            )
        way = self._ways[found.serve]
        problem = self._problem(found)
        if problem is None:
            way.renew(found, credentials)
            return True
        log.warning("volume %s: %s; mounting anew", found.volume_id, problem)
        self._undo(found.target, found)
        return False

    def _problem(self, record: Record) -> str | None:
        """Why a published volume has to be mounted anew, None where it need not."""
        record, problem = self._judged(record)
        way, target = self._ways[record.serve], Path(record.target)
        if problem is not None or mounted_at(target) is None:
            return problem or "the mount is gone"
        if way.answers(record) and self._prober.ask(target)[0] is Condition.DEAD:
            return "the mount is dead"
        return None

    def _judged(self, record: Record) -> tuple[Record, str | None]:
        """The record as it is by now, and why its volume does not serve and will not.

        No offer waits any more once the sidecar has fetched it: another record says so then.
        """
        way = self._ways[record.serve]
        problem = way.problem(record)
        if problem is None or record.phase is not Phase.OFFERED:
            return record, problem
        now = self._state.read(record.target) or record
        return now, way.problem(now)

    def _claim(self, record: Record) -> None:
        """Remembers what is about to be done, unless the volume's other targets forbid it."""
        with self._claiming:
            for other in self._state.records():
                if other.volume_id == record.volume_id and other.target != record.target:
                    _check_second_target(other, record)
            self._state.write(record)

    def _carry_out(self, record: Record, credentials: Credentials) -> None:
        try:
            self._clear(record.target)
            _make_target(Path(record.target))
            self._ways[record.serve].mount(record, credentials, self._state)
        except BaseException:
            with contextlib.suppress(Refusal, OSError):
                self._undo(record.target, record)
            raise
        log.info("volume %s is published at %s", record.volume_id, record.target)

    # -- unpublish --------------------------------------------------------------------------------

    def unpublish(self, volume_id: str, target: str) -> None:
        """NodeUnpublishVolume. Raises Refusal. Without a record there may still be a mount to clean."""
        place = place_of(target)
        with self._locks.hold(place), _translated(Credentials({})):
            record = self._state.read(place)
            if record is not None and record.volume_id != volume_id:
                raise Refusal(Code.NOT_FOUND, f"volume {volume_id!r} is not published at {target}")
            self._undo(place, record)
            log.info("volume %s is gone from %s", volume_id, target)

    def _undo(self, target: str, record: Record | None) -> None:
        """Every step of a publish backwards; each may have been done or not."""
        way = self._ways[record.serve] if record is not None else None
        if way is not None and record is not None:
            way.withdraw(record)
        busy = self._clear(target)
        if way is not None and record is not None:
            way.end(record, busy)
        _remove_target(Path(target))
        if way is not None and record is not None:
            way.forget(record)
        self._state.remove(target)

    def _clear(self, target: str) -> bool:
        """Takes every ossmount mount off ``target``; True where one was in use.

        Another file system there is not ours to take.
        """
        path, busy = Path(target), False
        while (mounted := mounted_at(path)) is not None:
            _must_be_ours(path, mounted.filesystem)
            try:
                unmount(path)
            except OssmountError:
                if mounted_at(path) is None:
                    break  # its own process came first
                unmount(path, lazy=True)
                busy = True
        return busy

    # -- condition --------------------------------------------------------------------------------

    def report(self, volume_id: str, path: str) -> Report:
        """NodeGetVolumeStats. Raises Refusal. Asks the mount only where its server is alive."""
        target = place_of(path)
        record = self._state.read(target)
        if record is None or record.volume_id != volume_id or record.phase is Phase.PUBLISHING:
            raise Refusal(Code.NOT_FOUND, f"volume {volume_id!r} is not published at {path}")
        record, problem = self._judged(record)
        way = self._ways[record.serve]
        if problem is None and mounted_at(Path(target)) is None:
            problem = "the mount is gone"
        if problem is not None:
            return Report(None, abnormal=True, message=f"{problem}; the next publish mounts anew")
        if not way.answers(record):
            return Report(None, abnormal=False, message="waiting for the sidecar")
        condition, usage = self._prober.ask(Path(target))
        if condition is Condition.SERVING:
            return Report(usage, abnormal=False, message="serving")
        what = "the mount gives no answer" if condition is Condition.SILENT else "the mount is dead"
        return Report(None, abnormal=True, message=what)

    # -- life of the plugin -------------------------------------------------------------------------

    def recover(self) -> None:
        """After a start: undoes what an earlier plugin was killed in, and offers again what it offered."""
        for record in list(self._state.records()):
            try:
                with self._locks.hold(record.target):
                    self._recover(record)
            except (Refusal, OssmountError, OSError) as error:
                log.warning("volume %s at %s cannot be recovered: %s", record.volume_id, record.target, error)

    def _recover(self, record: Record) -> None:
        if record.phase is Phase.PUBLISHING:
            log.info("volume %s: undoing a publish that was not finished", record.volume_id)
            self._undo(record.target, record)
        elif record.phase is Phase.OFFERED:
            log.info("volume %s: offering it again", record.volume_id)
            self._clear(record.target)
            self._ways[record.serve].mount(replace(record, phase=Phase.PUBLISHING), None, self._state)

    def tidy(self) -> None:
        """Takes dead mounts out of the tree, so that nobody runs into them; the record stays."""
        for record in self._state.records():
            dead = record.phase is Phase.PUBLISHED and record.serve is Serve.NODE
            if not dead or is_alive(record.process) or mounted_at(Path(record.target)) is None:
                continue
            with contextlib.suppress(Refusal, OssmountError), self._locks.hold(record.target):
                if self._state.read(record.target) == record:
                    log.warning("volume %s: its process died, unmounting", record.volume_id)
                    self._clear(record.target)

    def close(self) -> None:
        """Ends what this process holds; mounts that serve stay."""
        for way in self._ways.values():
            way.close()


def place_of(target: str) -> str:
    """``target`` with its parent's symbolic links resolved, as mountinfo has it; itself it is not touched."""
    path = Path(target)
    return str(Path(os.path.realpath(path.parent)) / path.name)


def _check_second_target(other: Record, record: Record) -> None:
    """Table "second NodePublishVolume on the same volume on the same node" of the specification."""
    if record.mode not in MULTIPLE or other.mode != record.mode:
        raise Refusal(
            Code.FAILED_PRECONDITION,
            f"volume {record.volume_id!r} is published at {other.target} with access mode {other.mode};"
            f" {record.mode} does not allow a second target",
        )


def _check_target(target: Path) -> None:
    """Refuses what is there and was not made by a publish, before anything is done."""
    mounted = mounted_at(target)
    if mounted is not None:
        _must_be_ours(target, mounted.filesystem)
    elif os.path.lexists(target) and (target.is_symlink() or not target.is_dir()):
        raise Refusal(Code.INVALID_ARGUMENT, f"{target} is there and no directory")
    elif target.is_dir() and (first := next(target.iterdir(), None)) is not None:
        raise Refusal(Code.INVALID_ARGUMENT, f"{target} is not empty (it holds {first.name!r})")


def _must_be_ours(target: Path, filesystem: str) -> None:
    if filesystem != FILESYSTEM_TYPE:
        raise Refusal(Code.INTERNAL, f"{target} holds a {filesystem} mount, which is not ours")


def _make_target(target: Path) -> None:
    """The directory to mount on. kubelet makes the parent."""
    with contextlib.suppress(FileExistsError):
        target.mkdir(mode=0o750)


def _remove_target(target: Path) -> None:
    """Removes the directory that nothing is mounted on any more; never anything in it."""
    try:
        target.rmdir()
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise Refusal(Code.INTERNAL, f"{target} is no directory and stays") from None
    except OSError as error:
        raise Refusal(Code.INTERNAL, f"{target} stays: {error.strerror}") from error


@contextlib.contextmanager
def _translated(credentials: Credentials) -> Iterator[None]:
    """Our errors as refusals, without secrets."""
    try:
        yield
    except Refusal:
        raise
    except OssmountError as error:
        code = code_of(error, authenticated=bool(credentials.files))
        raise Refusal(code, without_secrets(str(error), credentials.secrets())) from error
    except OSError as error:
        code = Code.RESOURCE_EXHAUSTED if error.errno in FULL_DISK else Code.INTERNAL
        raise Refusal(code, f"{error.filename or 'the node'}: {os.strerror(error.errno or 0)}") from error
