from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ossmount.readahead.inode_set import InodeSet


@given(st.lists(st.integers(0, 5000) | st.integers(0, 2**64 - 1)))
def test_behaves_as_a_set(inos: list[int]) -> None:
    subject, model = InodeSet(), set[int]()
    for ino in inos:
        assert subject.add(ino) == (ino not in model)
        model.add(ino)
        assert ino in subject
        assert (ino + 1 in subject) == (ino + 1 in model)
    assert len(subject) == len(model)
    subject.clear()
    assert len(subject) == 0
    assert not any(ino in subject for ino in model)
