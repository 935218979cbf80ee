"""Where a daemon's log goes: a file, the terminal of a foreground mount, or the system log; and its form.

What may live here: lines of the log, and of what a command says beside it. Who may touch it: whoever adds
a field or a place.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path

from ossmount.config import MountSettings
from ossmount.errors import SettingsError

SYSLOG_SOCKET = Path("/dev/log")
_LINE = "%(asctime)s %(levelname)s %(processName)s[%(process)d] %(name)s: %(message)s"
_SERVICE_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SYSLOG_LINE = "ossmount[%(process)d]: %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """One JSON object a message: ``time`` (UTC), ``level``, ``logger``, ``pid``, ``message``, ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def json_line(message: str, level: int = logging.INFO, error: BaseException | None = None) -> str:
    """What a command says, as the log would: with the same keys, without the end of the line."""
    about = (type(error), error, error.__traceback__) if error is not None else None
    return JsonLines().format(logging.LogRecord("ossmount", level, "", 0, message, None, about))


def say(message: str, form: str, level: int = logging.INFO) -> None:
    """Says something to the user on standard error, beside the command's output.

    What nobody can read any more is no reason to fail: a mount goes on without its reader.
    """
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{json_line(message, level) if form == 'json' else f'ossmount: {message}'}\n")


def log_to_stderr(form: str) -> None:
    """The log of a service that is no mount: the CSI driver, the sidecar."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(_SERVICE_LINE))
    logging.basicConfig(handlers=[handler], level=logging.INFO)


def set_up_logging(settings: MountSettings, *, terminal: bool, form: str = "text") -> None:
    """Sends this process's log, and that of every later fork, where the settings say.

    Without a log file, a terminal and a system log there is nowhere to write, and nothing is written.
    ``form`` is ``text`` or ``json``. Raises SettingsError where the file cannot be opened.
    """
    handler = _handler(settings, terminal)
    if form == "json":
        handler.setFormatter(JsonLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for chatty in ("botocore", "boto3", "urllib3", "oss2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # they log every request, with headers


def _handler(settings: MountSettings, terminal: bool) -> logging.Handler:
    if settings.log_file is not None:
        try:
            handler: logging.Handler = logging.FileHandler(Path(settings.log_file).absolute())
        except OSError as error:
            raise SettingsError(
                f"cannot write the log file {settings.log_file}: {error.strerror}", "name another --log-file"
            ) from error
    elif terminal:
        handler = logging.StreamHandler()
    elif SYSLOG_SOCKET.exists():
        handler = logging.handlers.SysLogHandler(str(SYSLOG_SOCKET))
        handler.setFormatter(logging.Formatter(_SYSLOG_LINE))
        return handler
    else:
        return logging.NullHandler()
    handler.setFormatter(logging.Formatter(_LINE))
    return handler
