from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ossmount.cache.identity import checksum_of
from ossmount.model import BlockId, ObjectId

ids = st.builds(
    BlockId,
    st.builds(ObjectId, st.text(max_size=4), st.text(max_size=4), st.text(max_size=4), st.just(9)),
    st.integers(0, 3),
    st.integers(0, 3),
)


@given(ids, ids)
def test_digests_are_equal_only_where_identities_are(one: BlockId, other: BlockId) -> None:
    assert (one.digest() == other.digest()) == (one == other)


def test_digest_takes_any_key() -> None:
    odd = BlockId(ObjectId("s3://b", "a\x00b\ud800\n", "e", 1), 0, 1)
    assert len(odd.digest()) == 16


def test_checksum_belongs_to_one_identity() -> None:
    one, other = (
        BlockId(ObjectId("s", "a", "e", 1), 0, 1).digest(),
        BlockId(ObjectId("s", "b", "e", 1), 0, 1).digest(),
    )
    for data in (b"", b"x", b"x" * 1000):
        assert checksum_of(data, one) != checksum_of(data, other)
