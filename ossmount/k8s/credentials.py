"""Credentials of a volume: taken from a publish call, kept in files of mode 0600, handed on by environment.

What may live here: the forms that keys come in, and how a mount's process finds them so that it sees
renewed ones: oss2's file is read again when it changes, boto3 runs ``credential_process.py`` every minute,
and reads the web identity token at each renewal. Nothing here is logged or part of a message but key names.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ossmount.json_text import read_json
from ossmount.k8s import credential_process
from ossmount.k8s.folder import Folder
from ossmount.k8s.refusal import Code, Refusal

AWS_NAMES = {
    "AWS_ACCESS_KEY_ID": "AccessKeyId",
    "AWS_SECRET_ACCESS_KEY": "SecretAccessKey",
    "AWS_SESSION_TOKEN": "SessionToken",
    "key_id": "AccessKeyId",
    "access_key": "SecretAccessKey",
    "session_token": "SessionToken",
}
"""Keys of a Secret for S3: those of AWS's variables, and those that its own CSI driver takes."""

OSS_NAMES = {
    "AccessKeyId": "AccessKeyId",
    "AccessKeySecret": "AccessKeySecret",
    "SecurityToken": "SecurityToken",
    "Expiration": "Expiration",
    "akId": "AccessKeyId",
    "akSecret": "AccessKeySecret",
}
"""Keys of a Secret for OSS: those of the vendor's credentials file, and those that its CSI driver takes."""

STS_AUDIENCE = "sts.amazonaws.com"
"""Audience of the service account token that AWS STS exchanges for keys of a role."""

AWS_FILE, OSS_FILE, TOKEN_FILE, ROLE_FILE, CONFIG_FILE = "aws.json", "oss.json", "token", "role", "aws-config"

_KEPT_AWS = (
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_STS_REGIONAL_ENDPOINTS"),
)
"""Variables that say where things are, not who asks."""

_WHO_ASKS = ("OSSMOUNT_PROFILE", "OSSMOUNT_CREDENTIALS_FILE", "OSSMOUNT_ECS_RAM_ROLE")
"""Options that say who asks, as variables."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files to write, by name. Empty where a volume brings none."""

    files: dict[str, str]

    def __repr__(self) -> str:
        return f"<Credentials {sorted(self.files)}>"

    def secrets(self) -> set[str]:
        """Every value that no message may show."""
        values: set[str] = set()
        for name, text in self.files.items():
            if name == ROLE_FILE:
                continue  # the name of a role helps who reads the message, and nobody else
            values |= set(json.loads(text).values()) if name.endswith(".json") else {text}
        return values - {""}


def credentials_of(secrets: Mapping[str, str], tokens: str, role_arn: str) -> Credentials:
    """The credentials of a publish call: its Secret, the service account tokens (JSON), the role.

    Raises Refusal, which names keys of the Secret and never a value.
    """
    unknown = sorted(secrets.keys() - AWS_NAMES.keys() - OSS_NAMES.keys())
    if unknown:
        raise _invalid(f"unknown keys in the Secret: {', '.join(unknown)}; see docs/kubernetes.md")
    files: dict[str, str] = {}
    aws = {AWS_NAMES[key]: value.strip() for key, value in secrets.items() if key in AWS_NAMES}
    oss = {OSS_NAMES[key]: value.strip() for key, value in secrets.items() if key in OSS_NAMES}
    if aws:
        _check_pair(aws, "AccessKeyId", "SecretAccessKey", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        files[AWS_FILE] = json.dumps(aws)
    if oss:
        _check_pair(oss, "AccessKeyId", "AccessKeySecret", "AccessKeyId", "AccessKeySecret")
        files[OSS_FILE] = json.dumps(oss)
    if role_arn and not aws:
        files[TOKEN_FILE], files[ROLE_FILE] = _token(tokens), role_arn
    return Credentials(files)


def _check_pair(found: Mapping[str, str], first: str, second: str, first_key: str, second_key: str) -> None:
    for name, key in ((first, first_key), (second, second_key)):
        if not found.get(name):
            raise Refusal(Code.UNAUTHENTICATED, f"the Secret has no {key}")


def _token(tokens: str) -> str:
    """The token for STS out of what kubelet passes. Raises Refusal."""
    try:
        return str(read_json(tokens)[STS_AUDIENCE]["token"])
    except (ValueError, TypeError, KeyError):
        raise Refusal(
            Code.UNAUTHENTICATED,
            f"role-arn is set, and kubelet passes no service account token for {STS_AUDIENCE};"
            " name that audience in tokenRequests of the CSIDriver",
        ) from None


def write(credentials: Credentials, folder: Folder, owner: int | None = None) -> None:
    """Writes the files into ``folder``, each beside and renamed; those of earlier credentials go.

    ``owner`` is the user who is to read them, this process's where it is None. Raises OSError.
    """
    for name, text in credentials.files.items():
        folder.write(name, text, owner)
    for name in folder.names():
        if name not in credentials.files and name != CONFIG_FILE:
            folder.remove(name)


def _aws_config(keys: Path) -> str:
    """boto3 asks a ``credential_process`` again whenever its answer has nearly expired."""
    return (
        f'[default]\ncredential_process = "{sys.executable}" -I -S "{credential_process.__file__}" "{keys}"\n'
    )


def environment(base: Mapping[str, str], directory: Path, own: Path) -> dict[str, str]:
    """The environment of a mount's process: ``base`` with the credentials in ``directory``, if there are.

    boto3's configuration is written into ``own``. A volume that brings credentials never falls back to
    those of its surroundings.
    """
    if not any((directory / name).exists() for name in (AWS_FILE, OSS_FILE, TOKEN_FILE)):
        return dict(base)
    kept = {
        name: value
        for name, value in base.items()
        if not name.startswith(("AWS_", "OSS_", *_WHO_ASKS)) or name in _KEPT_AWS
    }
    kept |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
    }
    if (directory / AWS_FILE).exists():
        with Folder.open(own) as folder:
            folder.write(CONFIG_FILE, _aws_config(directory / AWS_FILE))
        kept["AWS_CONFIG_FILE"] = str(own / CONFIG_FILE)
    if (directory / TOKEN_FILE).exists():
        kept["AWS_WEB_IDENTITY_TOKEN_FILE"] = str(directory / TOKEN_FILE)
        kept["AWS_ROLE_ARN"] = (directory / ROLE_FILE).read_text()
        kept["AWS_ROLE_SESSION_NAME"] = "ossmount"
    return kept


def options(directory: Path) -> dict[str, str]:
    """Options by which the mount finds credentials that no variable names."""
    file = directory / OSS_FILE
    return {"credentials_file": str(file)} if file.exists() else {}


def _invalid(message: str) -> Refusal:
    return Refusal(Code.INVALID_ARGUMENT, message)
