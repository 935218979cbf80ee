"""Credentials of a volume: how a process finds them, and finds renewed ones, with the real boto3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ossmount.k8s import credential_process
from ossmount.k8s.credentials import credentials_of, environment, options, write
from ossmount.k8s.folder import Folder
from ossmount.k8s.refusal import Refusal

ASK_BOTO3 = """
import json, pathlib, sys
import botocore.credentials, botocore.session
from datetime import timedelta
found = botocore.session.Session().get_credentials()
before = found.get_frozen_credentials()
pathlib.Path(sys.argv[1]).write_text(sys.argv[2])
now = botocore.credentials._local_now
found._time_fetcher = lambda: now() + timedelta(seconds=61)
print(json.dumps([before, found.get_frozen_credentials()]))
"""
"""Prints boto3's keys before and, a minute and a second later, after the file was renewed."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    return tmp_path / "keys"


def written(directory: Path, secrets: dict[str, str], tokens: str = "", role: str = "") -> dict[str, str]:
    """The environment that a volume's process gets, out of one with keys of the node."""
    with Folder.open(directory) as folder:
        write(credentials_of(secrets, tokens, role), folder)
    options_of_the_node = {"OSSMOUNT_PROFILE": "p", "OSSMOUNT_ECS_RAM_ROLE": "r", "OSSMOUNT_WORKERS": "1"}
    node = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "of-the-node", "AWS_REGION": "eu-1"}
    return environment(node | options_of_the_node, directory, directory)


def test_boto3_sees_renewed_keys_after_a_minute(directory: Path) -> None:
    variables = written(directory, {"AWS_ACCESS_KEY_ID": "id-1", "AWS_SECRET_ACCESS_KEY": "secret-1"})
    renewed = json.dumps({"AccessKeyId": "id-2", "SecretAccessKey": "secret-2", "SessionToken": "token-2"})
    command = [sys.executable, "-c", ASK_BOTO3, str(directory / "aws.json"), renewed]
    shown = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=30, check=False, cwd="/"
    )
    assert shown.returncode == 0, shown.stderr
    before, after = json.loads(shown.stdout)
    assert before[:2] == ["id-1", "secret-1"]
    assert after[:3] == ["id-2", "secret-2", "token-2"]


def test_a_volume_with_keys_never_uses_those_of_the_node(directory: Path) -> None:
    variables = written(directory, {"akId": "id", "akSecret": "secret"})
    assert "AWS_ACCESS_KEY_ID" not in variables
    assert variables["AWS_EC2_METADATA_DISABLED"] == "true"
    assert variables["AWS_REGION"] == "eu-1"
    assert [name for name in variables if name.startswith("OSSMOUNT_")] == ["OSSMOUNT_WORKERS"]
    assert json.loads(Path(options(directory)["credentials_file"]).read_text())["AccessKeySecret"] == "secret"


def test_a_volume_without_keys_uses_those_of_the_node(directory: Path) -> None:
    assert written(directory, {})["AWS_ACCESS_KEY_ID"] == "of-the-node"
    assert options(directory) == {}


def test_role_of_the_service_account(directory: Path) -> None:
    tokens = json.dumps({"sts.amazonaws.com": {"token": "the-token", "expirationTimestamp": "2030"}})
    variables = written(directory, {}, tokens, "arn:aws:iam::1:role/train")
    assert variables["AWS_ROLE_ARN"] == "arn:aws:iam::1:role/train"
    assert Path(variables["AWS_WEB_IDENTITY_TOKEN_FILE"]).read_text() == "the-token"


def test_keys_that_are_gone_are_removed(directory: Path) -> None:
    written(directory, {"akId": "id", "akSecret": "secret"})
    written(directory, {"key_id": "id", "access_key": "secret"})
    assert sorted(path.name for path in directory.iterdir()) == ["aws-config", "aws.json"]


def test_repr_shows_no_secret() -> None:
    assert "secret" not in repr(credentials_of({"akId": "id", "akSecret": "secret"}, "", ""))


@pytest.mark.parametrize("tokens", ["", "null", "[]", '{"other": {"token": "x"}}', "{"])
def test_tokens_that_are_none(tokens: str) -> None:
    with pytest.raises(Refusal, match="tokenRequests"):
        credentials_of({}, tokens, "arn:role")


def test_answer_for_boto3() -> None:
    answer = json.loads(credential_process.answer('{"AccessKeyId": "a", "SecretAccessKey": "b"}', 0.0))
    assert answer == {
        "Version": 1,
        "AccessKeyId": "a",
        "SecretAccessKey": "b",
        "Expiration": "1970-01-01T00:16:00Z",
    }
