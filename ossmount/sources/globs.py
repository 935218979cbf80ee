"""Globs over paths, for ``--include`` and ``--exclude``.

What may live here: the translation, pure. Who may touch it: whoever changes what a glob means, with
docs/views.md.

``?`` is one character and ``*`` any number of them within a component, ``[abc]``, ``[a-z]`` and ``[!a]``
one of a set; ``**/`` is any number of directories and ``/**`` everything below. A glob without ``/`` is
meant for the last component, wherever it is; one with ``/`` for the whole path from the root. A glob that
matches a directory matches everything in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ossmount.errors import SettingsError

Matches = Callable[[bytes], object]
"""Something true where a path matches."""


def compile_globs(globs: Sequence[str], option: str) -> Matches:
    """One matcher for all of ``globs``. Raises SettingsError, naming ``option``, for a glob that is none."""
    patterns = []
    for glob in globs:
        try:
            pattern = translate(glob)
            re.compile(pattern)
        except (ValueError, re.error) as error:
            raise SettingsError(f"{option}: {glob!r} is not a glob: {error}", "see docs/views.md") from error
        patterns.append(pattern)
    text = "|".join(f"(?:{pattern})" for pattern in patterns)
    return re.compile(text.encode("utf-8", "surrogateescape"), re.DOTALL).match


def translate(glob: str) -> str:
    """The regular expression for ``re.match`` of a path. Raises ValueError with the reason."""
    anchored = glob.removeprefix("/")
    if not anchored.strip("/"):
        raise ValueError("it names nothing")
    if "//" in anchored:
        raise ValueError("it has an empty component")
    start = "" if "/" in glob.rstrip("/") else "(?:.*/)?"
    # Behind the name the path ends, or goes on where the name was a directory's.
    end = "/" if glob.endswith("/") else r"(?:/|\Z)"
    return start + _components(anchored.rstrip("/")) + end


def _components(glob: str) -> str:
    parts = glob.split("/")
    out = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            out.append(".+" if last else "(?:.*/)?")
        else:
            out.append(_component(part) + ("" if last else "/"))
    return "".join(out)


def _component(part: str) -> str:
    out, position = [], 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append(_ANY)
        elif character == "[":
            end = part.find("]", position + 2 if part[position : position + 1] == "!" else position + 1)
            if end < 0:
                raise ValueError("'[' has no ']'")
            out.append(_set(part[position:end]))
            position = end + 1
        else:
            out.append(re.escape(character))
    return "".join(out)


_ANY = r"(?:[\x00-\x2e\x30-\x7f\x80-\xbf]|[\xc0-\xff][\x80-\xbf]*)"
"""One character of UTF-8, or a byte that is none, other than ``/``."""


def _set(content: str) -> str:
    """A set of ASCII characters; others would be several bytes."""
    if not content.isascii():
        raise ValueError("a set in '[]' may hold ASCII characters only")
    negated = content.startswith("!")
    members = re.sub(r"[\\\[\]^&~|]", lambda match: "\\" + match[0], content[negated:])
    return f"(?!/)(?:(?![{members}]){_ANY})" if negated else f"(?!/)[{members}]"
