"""Every relative link of README.md and docs/ leads to something, anchors included."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+\s+(.+?)\s*$", re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of inline links outside of code blocks."""
    return _LINK.findall(_FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    kept = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", h) for h in _HEADING.findall(_FENCE.sub("", text)))
    return {_slug(heading) for heading in kept}


def _slug(heading: str) -> str:
    lowered = heading.strip().lower().replace(" ", "-")
    return "".join(c for c in lowered if c in "-_" or unicodedata.category(c)[0] in "LN")


def broken(page: Path) -> list[str]:
    wrong = []
    for target in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        where = (page.parent / path) if path else page
        reached = where.exists() and (
            not anchor or where.suffix != ".md" or anchor in anchors(where.read_text(encoding="utf-8"))
        )
        if not reached:
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Here\n[a](#here) [b](#there) [c](gone.md) [d](page.md#here)\n```\n[e](code)\n```\n")
    assert broken(page) == ["#there", "gone.md"]
