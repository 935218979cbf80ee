"""The index room: an immutable tree of a source in one LMDB file.

Who may touch it: nobody outside imports its modules; the names here are all there is.
"""

from ossmount.index.building import build
from ossmount.index.comparing import Change, ChangeKind, compare
from ossmount.index.envelope import checksum_of, reserved
from ossmount.index.exporting import ReportRow, export, report
from ossmount.index.layout import FORMAT
from ossmount.index.reading import LmdbIndex, open_index

__all__ = [
    "FORMAT",
    "Change",
    "ChangeKind",
    "LmdbIndex",
    "ReportRow",
    "build",
    "checksum_of",
    "compare",
    "export",
    "open_index",
    "report",
    "reserved",
]
