"""Between which values an option makes sense: a mount that could answer nobody is refused before it is made.

What may live here: least and most, as users write them. Touch it with a new option that is a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RANGES: dict[str, tuple[str, str]] = {
    "retries": ("0", "100"),
    "connect_timeout": ("10ms", "1h"),
    "request_timeout": ("10ms", "1d"),
    "max_request_rate": ("0", "1000000"),
    "size_concurrency": ("1", "1024"),
    "small_file": ("0", "1G"),
    "part_size": ("4K", "1G"),
    "block_size": ("4K", "1G"),
    "max_requests": ("1", "4096"),
    "max_bytes": ("64K", "1T"),
    "prefetchers": ("0", "64"),
    "read_deadline": ("100ms", "1d"),
    "workers": ("1", "64"),
    "uid": ("0", "4294967294"),
    "gid": ("0", "4294967294"),
    "kernel_read_ahead": ("0", "1G"),
    "max_background": ("1", "65535"),
    "refresh": ("100ms", "365d"),
}
"""By field name. Sizes without a row may be anything that is a size: none of them is negative."""


def check_range(name: str, text: str, value: Any, parse: Callable[[str], Any]) -> None:
    """Raises ValueError where ``value``, which was written as ``text``, is out of the option's range."""
    if name not in RANGES:
        return
    least, most = RANGES[name]
    if not parse(least) <= value <= parse(most):  # in this form, for "nan" is a number, too
        raise ValueError(f"{text!r} is not between {least} and {most}")


def shown_range(name: str) -> str:
    """`` (1 to 64)`` for the documents; "" where there is none."""
    return f" ({' to '.join(RANGES[name])})" if name in RANGES else ""
