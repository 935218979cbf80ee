"""Whose certificates are believed: what the environment says of it, the same for every client.

The clients look in different places. The interpreter's ``ssl`` and Rust's clients have SSL_CERT_FILE,
SSL_CERT_DIR and the system's list, and Rust's panic where there is none at all; libcurl, requests and
botocore are told. For AWS, what botocore knows comes first (``s3_session.ca_bundle``). What may live here:
finding files of authorities, and saying what is wrong with one. No client.
"""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path

import certifi

from ossmount.errors import SettingsError
from ossmount.places import is_directory, is_file

FILE, FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"

USUAL = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep their list; an interpreter that was not built for the system looks elsewhere."""

_REMEDY = "name a file of certificates in PEM, such as " + USUAL[0]


def authorities_file() -> str:
    """That of the environment, or the system's, or else certifi's."""
    return _file(os.environ.get(FILE), USUAL)


def authorities_folder() -> str | None:
    """What the environment names beside the file: a directory as ``openssl rehash`` leaves it."""
    return os.environ.get(FOLDER) or None


def authorities_for(ca: str | None) -> tuple[str, str | None]:
    """File and directory to believe: ``ca`` alone, or without it those of the environment or the system."""
    return (ca, None) if ca else (authorities_file(), authorities_folder())


def authorities_path() -> str:
    """For a client that takes one of both."""
    return os.environ.get(FILE) or authorities_folder() or authorities_file()


def ensure_authorities() -> None:
    """Makes sure that every client finds some. Raises SettingsError: there are none where it is said."""
    if file := os.environ.get(FILE):
        read_authorities(file, FILE)
    elif folder := authorities_folder():
        if not any(is_directory(part) for part in folder.split(os.pathsep)):
            raise SettingsError(f"{FOLDER}: {folder} is not a directory", f"correct it, or {_REMEDY}")
    elif authorities_file() == certifi.where():
        os.environ[FILE] = certifi.where()  # the only way to tell all of them


def read_authorities(file: str, told_by: str) -> bytes:
    """What is in the file that the setting ``told_by`` names. Raises SettingsError."""
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{told_by}: {file}: {error.strerror}", _REMEDY) from error
    if b"CERTIFICATE-----" not in data:
        raise SettingsError(f"{told_by}: {file}: there is no certificate in it", _REMEDY)
    return data


@functools.cache
def _file(named: str | None, usual: tuple[str, ...]) -> str:
    """Each transfer asks for it, so the answer for one environment is kept."""
    found = named or ssl.get_default_verify_paths().cafile
    return found or next((file for file in usual if is_file(file)), certifi.where())
