"""What a label may be. A label becomes a directory name, so it obeys the rules of one.

What may live here: the rule, pure. Who may touch it: whoever changes it, with docs/semantics.md.
"""

from __future__ import annotations

from ossmount.model import NAME_MAX

UNLABELLED = "_unlabelled"
"""Directory of entries without a label (SEMANTICS, Layouts)."""


def label_fault(label: str) -> str | None:
    """Why ``label`` cannot be one, or None if it can."""
    if not label or label.isspace():
        return "the label is empty"
    if "/" in label:
        return f"the label {label!r} contains '/'"
    if "\0" in label:
        return f"the label {label!r} contains a NUL"
    if label in {".", ".."}:
        return f"the label {label!r} cannot be a directory name"
    fault = text_fault(label)
    if fault is not None:
        return fault
    if len(label.encode("utf-8", "surrogateescape")) > NAME_MAX:
        return f"the label {label[:20]!r}… is longer than {NAME_MAX} bytes"
    return None


def text_fault(text: str) -> str | None:
    """Why no name can hold ``text``, or None: JSON can say half of a character, UTF-8 cannot.

    Bytes that were not UTF-8 (``os.fsdecode``) are no fault.
    """
    if text.isascii():
        return None
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        return f"{text[error.start]!r} is half of a character"
    return None
