"""Where OSS credentials come from, and when they are read again.

What may live here: sources of access keys; no request to OSS itself. Touch it when users keep their keys in
another place. Every request asks its source, so renewed keys reach both transports without a restart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import oss2
from oss2.credentials import EcsRamRoleCredentialsProvider, EnvironmentVariableCredentialsProvider

from ossmount.config import StoreSettings
from ossmount.errors import AccessDenied, SettingsError
from ossmount.json_text import read_json

METADATA_URL = "http://100.100.100.200/latest/meta-data/ram/security-credentials/"
"""Where an ECS instance finds the keys of its RAM role (Alibaba Cloud's instance metadata)."""

RENEW_BEFORE = 300.0
"""Seconds before Expiration at which a credentials file is read again: requests in flight stay valid."""

LOOK_EVERY = 1.0
"""Seconds between two looks at a credentials file: a stat for each of thousands of GETs helps nobody."""


ANONYMOUS = "no credentials (--no-sign-request)"
"""Describes unsigned access."""


class Credentials(NamedTuple):
    """An access key; ``security_token`` is "" for a permanent one."""

    access_key_id: str
    access_key_secret: str
    security_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id!r}, …)"


class CredentialSource(Protocol):
    """Gives the keys to sign the next request with. Thread-safe."""

    @property
    def description(self) -> str:
        """Names the source in error messages, without secrets."""
        ...

    def current(self) -> Credentials | None:
        """None means: do not sign. Raises AccessDenied."""
        ...


class Anonymous:
    """Unsigned requests."""

    description = ANONYMOUS

    def current(self) -> None:
        """Never signs."""


class EnvironmentCredentials:
    """OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN, as oss2 reads them."""

    description = "the environment (OSS_ACCESS_KEY_ID)"

    def __init__(self) -> None:
        self._provider = EnvironmentVariableCredentialsProvider()

    def current(self) -> Credentials:
        """Raises AccessDenied where the variables are missing."""
        try:
            return _from_oss2(self._provider.get_credentials())
        except oss2.exceptions.ClientError as error:
            raise AccessDenied(
                "no OSS credentials",
                "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or give --credentials-file,"
                " --ecs-ram-role or --no-sign-request",
            ) from error


class EcsRoleCredentials:
    """Temporary keys of the instance's RAM role; oss2 renews them when 15 % of their life are left."""

    def __init__(self, role: str, metadata_url: str = METADATA_URL) -> None:
        self.description = f"the ECS RAM role {role!r}"
        self._provider = EcsRamRoleCredentialsProvider(metadata_url + role, max_retries=2, timeout=5)

    def current(self) -> Credentials:
        """Raises AccessDenied where the metadata service does not give keys."""
        try:
            found = self._provider.get_credentials()
        except oss2.exceptions.ClientError as error:
            raise AccessDenied(
                f"{self.description} gives no credentials",
                "check that this is an ECS instance with that role attached",
            ) from error
        return _from_oss2(found)


class FileCredentials:
    """The vendor's JSON file: AccessKeyId, AccessKeySecret, and optionally SecurityToken, Expiration.

    Read again when it changes on disk and before its keys expire: whoever renews the keys replaces the
    file. While a new file cannot be read, the keys of the old one serve until they expire.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self.description = f"the credentials file {path}"
        self._path = Path(path)
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self._credentials: Credentials | None = None
        self._expires = float("inf")

    def current(self) -> Credentials:
        """Raises AccessDenied (expired, unreadable), SettingsError (not the vendor's form)."""
        with self._lock:
            now = self._clock()
            if self._credentials is None or now - self._looked >= LOOK_EVERY:
                self._look(now)
            if self._credentials is None or now >= self._expires:
                raise AccessDenied(f"the keys in {self._path} have expired", "renew the file")
            return self._credentials

    def _look(self, now: float) -> None:
        self._looked = now
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen or now >= self._expires - RENEW_BEFORE:
                self._credentials, self._expires = parse_credentials(self._path.read_bytes(), str(self._path))
                self._seen = seen
        except OSError as error:
            self._give_up(
                AccessDenied(f"cannot read {self._path}: {error.strerror}", "check the path"), error
            )
        except SettingsError as error:
            self._give_up(error, error)

    def _give_up(self, problem: AccessDenied | SettingsError, cause: Exception) -> None:
        """A file in the middle of being replaced is no reason to forget keys that are still good."""
        if self._credentials is None:
            raise problem from (cause if cause is not problem else None)


def parse_credentials(text: str | bytes, place: str) -> tuple[Credentials, float]:
    """Keys and their expiry (seconds since the epoch; infinity where none). Raises SettingsError."""
    remedy = 'it must hold {"AccessKeyId": …, "AccessKeySecret": …, "SecurityToken": …, "Expiration": …}'
    try:
        table = read_json(text)
        keys = Credentials(
            table["AccessKeyId"].strip(),
            table["AccessKeySecret"].strip(),
            (table.get("SecurityToken") or "").strip(),
        )
        expires = table.get("Expiration")
        return keys, parse_expiration(expires) if expires else float("inf")
    except (ValueError, KeyError, TypeError, AttributeError):
        # The cause may quote the file, which is secret.
        raise SettingsError(f"{place}: not an OSS credentials file", remedy) from None


def parse_expiration(text: str) -> float:
    """Seconds since the epoch from ``2030-01-02T03:04:05Z``; UTC where no zone is given. ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def choose_credentials(settings: StoreSettings, metadata_url: str = METADATA_URL) -> CredentialSource:
    """The source that the settings name; the environment where they name none."""
    if settings.no_sign_request:
        return Anonymous()
    if settings.credentials_file is not None:
        return FileCredentials(settings.credentials_file)
    if settings.ecs_ram_role is not None:
        return EcsRoleCredentials(settings.ecs_ram_role, metadata_url)
    return EnvironmentCredentials()


def _from_oss2(found: Any) -> Credentials:
    return Credentials(
        found.get_access_key_id(), found.get_access_key_secret(), found.get_security_token() or ""
    )
