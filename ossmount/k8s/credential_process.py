"""Tells boto3 the keys in a file: ``python -I -S credential_process.py FILE`` (AWS's credential_process).

What may live here: the standard library's quickest start, for boto3 runs this program every minute. The
keys are given as valid for sixteen minutes, whatever they are: botocore asks again when fifteen are left,
so keys that were renewed in the file are in use a minute later, and of expired ones the store says so.
"""

from __future__ import annotations

import json
import sys
import time

VALID_SECONDS = 16 * 60
"""botocore renews when less than fifteen minutes are left (``_advisory_refresh_timeout``)."""


def answer(text: str, now: float) -> str:
    """The answer to boto3 from the file's JSON (AccessKeyId, SecretAccessKey, SessionToken)."""
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + VALID_SECONDS))
    return json.dumps({"Version": 1, **json.loads(text), "Expiration": expiration})


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as stream:  # noqa: PTH123 - pathlib would double the start
        sys.stdout.write(answer(stream.read(), time.time()))
