"""The process of one volume: ``python -m ossmount.k8s.mounter``, started by the node plugin or the sidecar.

It reads its job, a line of JSON, from standard input, mounts as ``ossmount mount --foreground`` does, and
says on standard output, in a line of JSON, that it serves or why it does not. Then it waits for a line on
standard input before it goes on: whoever started it has remembered it by then. If that one is dead the
mount ends again, so that no mount stays that nobody knows of.

What may live here: that hand-shake. Who may touch it: whoever changes it together with ``spawning``.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from ossmount.app.mounting import prepare
from ossmount.config import Settings, compose, from_environment, parse_value
from ossmount.errors import MountError, OssmountError, encode_error
from ossmount.model import Progress

log = logging.getLogger(__name__)

ORIGIN = "volume attribute"


def settings_of(options: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """The volume's settings; the environment gives defaults for the whole node. Raises SettingsError."""
    values = {name: parse_value(name, text, f"{ORIGIN} {name}") for name, text in options.items()}
    return compose(from_environment(environment), values)


def main() -> int:
    """Serves until unmounted; the exit status is the mount's."""
    job, answers = json.loads(_line()), _keep_standard_output()
    try:
        settings = settings_of(job["options"], os.environ)
        mounting = prepare(job["sources"], job["mountpoint"], settings, foreground=True, report=_quiet)
        return mounting.run(partial(_serving, answers))
    except OssmountError as error:
        _tell(answers, {"error": encode_error(error)})
        return error.exit_status
    except Exception as error:
        described = MountError(f"internal error: {type(error).__name__}: {error}")
        _tell(answers, {"error": encode_error(described)})
        raise


def _quiet(progress: Progress) -> None:
    """Nobody looks at a progress bar here."""


def _line() -> bytes:
    """A line from standard input, which stays open: no more is read than that."""
    text = b""
    while not text.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            break
        text += piece
    return text


def _keep_standard_output() -> int:
    """Standard output under another number; what a manifest's parser or a library prints goes to the log."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _tell(answers: int, message: dict[str, Any]) -> None:
    try:
        os.write(answers, json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        log.warning("whoever started this mount is gone")


def _serving(answers: int) -> None:
    _tell(answers, {"serving": True})
    if not _line():
        os.kill(os.getpid(), signal.SIGTERM)  # the supervisor's loop then drains and unmounts


if __name__ == "__main__":
    sys.exit(main())
