"""Who is told attributes, and the entry that holds none."""

from __future__ import annotations

import pyfuse3

from ossmount.fuse.brief_listings import ASKS_OFTEN, LISTERS, WANTS_NAMES, BriefEntry, Detail, Listers


def test_a_thread_that_only_lists_is_soon_told_names_only() -> None:
    listers = Listers()
    told = [listers.opens(7) for _ in range(WANTS_NAMES + 2)]
    assert told == [Detail.LATER] * WANTS_NAMES + [Detail.NONE] * 2
    assert listers.opens(8) is Detail.LATER, "each thread for itself"


def test_a_thread_that_looks_up_what_it_lists_is_told_all() -> None:
    listers = Listers()
    for _ in range(WANTS_NAMES + 1):
        listers.opens(7)
    for _ in range(ASKS_OFTEN - 1):
        listers.looks_up(7)
    assert listers.opens(7) is Detail.NONE
    listers.looks_up(7)
    assert listers.opens(7) is Detail.ALL


def test_who_never_listed_is_not_remembered() -> None:
    listers = Listers()
    for _ in range(ASKS_OFTEN):
        listers.looks_up(7)
    assert listers.opens(7) is Detail.LATER


def test_only_so_many_threads_are_remembered() -> None:
    listers = Listers()
    for _ in range(WANTS_NAMES):
        listers.opens(0)
    for thread in range(1, LISTERS):
        listers.opens(thread)
    assert listers.opens(0) is Detail.NONE
    listers.opens(LISTERS)
    assert listers.opens(0) is Detail.LATER, "the oldest was forgotten"
    assert repr(listers) == f"<Listers {LISTERS} threads>"


def test_a_brief_entry_has_no_node_id_whatever_number_it_shows() -> None:
    entry = pyfuse3.EntryAttributes()
    entry.st_mode = 0o100444
    brief = BriefEntry.of(entry)
    assert brief is not None
    before = entry.__getstate__()
    brief.number[0] = 4711
    assert entry.__getstate__() == before, "neither the node id nor anything else has changed"
    assert entry.st_ino == 0
    assert brief.number[0] == 4711


def test_an_object_of_another_make_is_left_alone() -> None:
    class Other:
        st_ino = 0

    assert BriefEntry.of(Other()) is None  # type: ignore[arg-type]
