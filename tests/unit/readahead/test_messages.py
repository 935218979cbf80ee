from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.readahead.messages import (
    Decoder,
    Known,
    Listed,
    LookedUp,
    Observation,
    Opened,
    Read,
    known_frames,
    listed_frame,
    looked_up_frame,
    observation_pipe,
    opened_frame,
    read_frame,
)
from ossmount.readahead.observer import LISTED_AT_ONCE, Observer

INO = st.integers(0, 2**64 - 1)
OBSERVATIONS = st.one_of(
    st.builds(Opened, INO),
    st.builds(Listed, INO),
    st.builds(LookedUp, INO),
    st.builds(Read, INO, INO, st.integers(0, 2**32 - 1)),
)


def encode(observation: Observation) -> bytes:
    match observation:
        case Opened(ino):
            return opened_frame(ino)
        case Listed(ino):
            return listed_frame(ino)
        case LookedUp(ino):
            return looked_up_frame(ino)
        case Read(ino, offset, size):
            return read_frame(ino, offset, size)
    raise AssertionError(observation)


@given(st.lists(OBSERVATIONS), st.integers(1, 40))
def test_frames_survive_any_cutting(observations: list[Observation], piece: int) -> None:
    wire = b"".join(map(encode, observations))
    decoder = Decoder()
    got = [o for i in range(0, len(wire), piece) for o in decoder.feed(wire[i : i + piece])]
    assert got == observations


@given(st.integers(1, 16))
def test_a_reader_that_starts_amid_a_frame_finds_the_next(cut: int) -> None:
    wire = opened_frame(7) + read_frame(8, 9, 10) * 3
    assert list(Decoder().feed(wire[min(cut, 12) :]))[-3:] == [Read(8, 9, 10)] * 3


@given(st.binary(max_size=300))
def test_garbage_never_raises(data: bytes) -> None:
    for _ in Decoder().feed(data):
        pass


def test_an_order_of_any_length_fits_into_frames_that_a_pipe_keeps_whole() -> None:
    inos = list(range(10, 3010))
    frames = list(known_frames(inos))
    assert all(len(frame) <= 4096 for frame, _ in frames)
    got = list(Decoder().feed(b"".join(frame for frame, _ in frames)))
    assert [o.begin for o in got if isinstance(o, Known)] == [True] + [False] * (len(frames) - 1)
    assert [ino for o in got if isinstance(o, Known) for ino in o.inos] == inos
    assert not any(
        o.begin for o in Decoder().feed(next(known_frames([1], begin=False))[0]) if isinstance(o, Known)
    )


def test_a_full_pipe_drops_and_counts() -> None:
    reading, writing = observation_pipe()
    observer = Observer(writing)
    inos = list(range(500_000))
    passed = observer.know(inos)
    assert 0 < passed < len(inos)
    assert observer.statistics()["dropped"] == 1
    wire = b""
    while len(wire) < passed * 8:
        wire += os.read(reading, 1 << 20)
    assert [ino for o in Decoder().feed(wire) if isinstance(o, Known) for ino in o.inos] == inos[:passed]
    os.close(reading)
    observer.opened(1)  # nobody reads any more
    assert observer.statistics()["dropped"] == 2
    os.close(writing)


def test_every_prefetcher_hears_everything_over_sockets_too() -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    observer = Observer(*(sender for _, sender in pairs))
    observer.listed(6)
    observer.opened(5)
    for receiver, sender in pairs:
        decoder = Decoder()
        assert list(decoder.feed(receiver.recv(4096))) == [Listed(6), Opened(5)]
        receiver.close()
        sender.close()


def test_listed_directories_are_told_with_the_next_open_or_many_at_once() -> None:
    reading, writing = observation_pipe()
    observer, decoder = Observer(writing), Decoder()
    observer.listed(2)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    observer.opened(3)
    assert list(decoder.feed(os.read(reading, 4096))) == [Listed(2), Opened(3)]
    for ino in range(LISTED_AT_ONCE):
        observer.listed(ino)
    assert list(decoder.feed(os.read(reading, 4096))) == [Listed(ino) for ino in range(LISTED_AT_ONCE)]
    assert observer.statistics() == {"sent": 2 + LISTED_AT_ONCE, "dropped": 0}
    os.close(reading)
    os.close(writing)
