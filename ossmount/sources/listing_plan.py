"""Which part of a listing is asked for next: key ranges that are split while they run. Pure.

What may live here: decisions over key ranges, no thread, no request, no clock. Who may touch it: whoever
has measured listings of differently distributed keys; tests prove exactness for every key set.

Exactness rests on one rule: the ranges ``(after, end]`` of a plan never overlap and leave no gap, and a
split at *any* key in between keeps that so. Where to split is a guess, and a bad guess costs one request,
which still halves what is unknown:

1. Directories, asked for with a delimiter on the way down to where a range stands, are the best cuts.
2. Else characters: at each position of the range's last key between what its page had in common and what
   the range's ends have in common, every character seen so far in any key is a possible cut. Deep
   positions cut near, shallow ones far; cuts are taken evenly from all of them. An empty answer moves the
   end of its left neighbour to where keys can still be, so the next cuts are nearer.

Requests stay in proportion: a cut costs as much credit as a full page of keys earns.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

PROOF_PAGES = 4
"""Pages that a range must have given since it was made or cut before it is cut: a cut costs about one
request more, so that is a quarter at worst, and small listings cost nothing more."""

PAGES_PER_STEP = 4
"""Pages for each running range without a complaint, before one more range may run after a throttling."""

STOCK = 1
"""Ranges that wait, for each that may run: the reader needs the first keys first, so all threads list at the
front of many short ranges instead of each in a long one of its own."""

STOCK_PRICE = 8
"""Credit for a cut that no idle thread is waiting for, so these cost a quarter more requests at worst."""

STOCK_CUTS = 8
"""Such cuts at once in one range: the next ones are made elsewhere, where more may be ahead by then."""

MAX_HINTS = 200_000
"""Directories kept as cuts (some 20 MB); beyond, directories are asked for again when they are needed."""

_MAX_ALPHABET = 512
_DELIMITER = b"/"


class Span(NamedTuple):
    """Keys greater than ``after`` and not greater than ``upto`` (None: to the end), by their bytes."""

    after: bytes
    upto: bytes | None


@dataclass(eq=False, slots=True)
class KeyRange:
    """A range in the making. ``cursor`` is the last key it has given, or where it begins."""

    cursor: bytes
    end: bytes | None
    pages: int = 0
    common: int = 0
    """How many bytes the first and the last key of its last page share."""
    exploring: bool = False
    exhausted_cuts: bytes | None = None
    """The cursor at which no cut was found."""


class Explore(NamedTuple):
    """A listing of one directory's first level, behind ``after``; serves to find cuts in ``victim``."""

    directory: bytes
    after: bytes
    victim: KeyRange


class Step(NamedTuple):
    """What a page meant: how many of its keys belong to the range, which span they cover, and whether
    the range is finished."""

    own: int
    span: Span
    finished: bool


def key_order(key: str) -> bytes:
    """Stores order keys by their UTF-8 bytes; undecodable local names pass through."""
    return key.encode("utf-8", "surrogateescape")


def gaps(done: Iterable[Span]) -> list[Span]:
    """What ``done`` spans (disjoint, in any order) leave open between the first key and the end."""
    open_spans: list[Span] = []
    position: bytes | None = b""
    for span in sorted(done, key=lambda span: span.after):
        if position is None:
            break
        if span.after > position:
            open_spans.append(Span(position, span.after))
        position = span.upto if span.upto is None else max(position, span.upto)
    if position is not None:
        open_spans.append(Span(position, None))
    return open_spans


@dataclass(slots=True)
class ListingPlan:
    """The ranges of one listing. The caller sees to it that only one thread is in here at a time."""

    prefix: bytes
    concurrency: int
    done: Iterable[Span] = ()
    limit: int = field(init=False)
    _pending: list[KeyRange] = field(init=False)
    _running: list[KeyRange] = field(init=False, default_factory=list)
    _explorations: int = field(init=False, default=0)
    _credit: float = field(init=False, default=0.0)
    _fullest: int = field(init=False, default=1)
    _calm: int = field(init=False, default=0)
    _heard: int = field(init=False, default=0)
    """Pages that are still to come before another complaint says something new."""
    _hints: list[bytes] = field(init=False, default_factory=list)
    _explored: dict[bytes, bytes | None] = field(init=False, default_factory=dict)
    _alphabet: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.limit = self.concurrency
        self._pending = [KeyRange(*span) for span in gaps(self.done)]  # always in order

    @property
    def finished(self) -> bool:
        """True when every key has been listed."""
        return not self._pending and not self._running

    def yields(self, of: KeyRange) -> bool:
        """Whether ``of``, which has just given a page, is to be put back: more runs than may, or a range
        before it waits."""
        if len(self._running) + self._explorations > self.limit:
            return True
        return bool(self._pending) and self._pending[0].cursor < of.cursor

    def take(self) -> KeyRange | Explore | None:
        """What an idle thread should do now; None: nothing at the moment."""
        idle = self.limit - len(self._running) - self._explorations
        if idle <= 0:
            return None
        if not self._pending:
            exploration = self._split(min(idle, int(self._credit)))
            if exploration is not None:
                return exploration
        if not self._pending:
            return None
        taken = self._pending.pop(0)
        self._running.append(taken)
        return taken

    def page(self, of: KeyRange, keys: Sequence[str]) -> Step:
        """Takes note of a page of ``of``; keys behind the range's end are not its own."""
        after, count = of.cursor, len(keys)
        last = key_order(keys[-1]) if count else after
        finished = of.end is not None and last >= of.end
        if finished and of.end is not None and last > of.end:
            count = bisect_right(keys, of.end, key=key_order)
        self._learn(of, keys, count)
        if finished:
            self._running.remove(of)
            return Step(count, Span(after, of.end), True)
        of.cursor = last
        self._stock_up()
        return Step(count, Span(after, last), False)

    def ended(self, of: KeyRange) -> Span:
        """The store had no further page for ``of``: gives the span that is settled by that."""
        self._running.remove(of)
        return Span(of.cursor, of.end)

    def put_back(self, of: KeyRange | Explore, *, throttled: bool) -> None:
        """Work that failed and is to be done again; ``throttled`` halves how much may run at once."""
        if isinstance(of, Explore):
            self._explorations -= 1
            of.victim.exploring = False
        else:
            self._running.remove(of)
            self._wait(of)
        if throttled:
            self._halve()

    def complained(self) -> None:
        """A store asked for fewer requests. Requests that were under way when it was last heeded are not
        heard again: one wave of refusals halves the limit once."""
        if self._heard == 0:
            self._halve()

    def _halve(self) -> None:
        self._heard = self.limit
        self.limit = max(1, self.limit // 2)
        self._calm = 0

    def explored(self, task: Explore, keys: Sequence[str], prefixes: Sequence[str]) -> None:
        """Takes note of the first page of a directory."""
        self._explorations -= 1
        task.victim.exploring = False
        found = [key_order(prefix) for prefix in prefixes]
        # Behind the last entry there may be more; where there is none, nothing can follow any more.
        self._explored[task.directory] = max((*found[-1:], *map(key_order, keys[-1:])), default=None)
        if len(self._hints) < MAX_HINTS:
            self._hints = sorted({*self._hints, *found})

    def _learn(self, of: KeyRange, keys: Sequence[str], count: int) -> None:
        self._fullest = max(self._fullest, count)
        self._credit = min(self._credit + count / self._fullest, 4.0 * self.concurrency)
        of.pages += 1
        if count:
            of.common = _common(key_order(keys[0]), key_order(keys[count - 1]))
            for key in (keys[0], keys[count // 2], keys[count - 1]):
                self._see_characters(key)
        self._calm += 1
        self._heard = max(0, self._heard - 1)
        if self.limit < self.concurrency and self._calm >= PAGES_PER_STEP * self.limit:
            self.limit, self._calm = self.limit + 1, 0

    def _see_characters(self, key: str) -> None:
        for character in set(key[len(self.prefix) :]).difference(self._alphabet):
            # Control characters are unwelcome in requests, and lone surrogates cannot be sent.
            plain = character >= " " and not "\ud800" <= character <= "\udfff" and character != "\x7f"
            if plain and len(self._alphabet) < _MAX_ALPHABET:
                insort(self._alphabet, character)

    def _wait(self, of: KeyRange) -> None:
        insort(self._pending, of, key=lambda waiting: waiting.cursor)

    def _stock_up(self) -> None:
        """Cuts so that ranges wait, though nobody is idle. Asks for nothing: that can wait."""
        wanted = min(STOCK * self.limit - len(self._pending), int(self._credit / STOCK_PRICE), STOCK_CUTS)
        if len(self._running) == self.limit and wanted > 0:
            self._split(wanted, explore=False)

    def _split(self, wanted: int, *, explore: bool = True) -> Explore | None:
        """Cuts the running range that has given most; an exploration where that has to come first."""
        if not wanted:
            return None
        ready = [r for r in self._running if r.pages >= PROOF_PAGES and r.exhausted_cuts != r.cursor]
        for victim in sorted(ready, key=self._worth, reverse=True):
            if victim.exploring:
                continue
            cuts = self._hints_in(victim)
            directory = None if cuts else self._unexplored(victim)
            if directory is not None and not explore:
                continue
            if directory is not None:
                victim.exploring = True
                self._explorations += 1
                self._credit -= 1
                return Explore(directory, victim.cursor, victim)
            # In stock only cuts that are some pages away: one that is near costs a request for its end.
            common = victim.common if explore else max(0, victim.common - 1)
            cuts = cuts or cut_points(victim.cursor, victim.end, common, self._alphabet)
            if cuts:
                self._cut(victim, evenly(cuts, wanted))
                return None
            victim.exhausted_cuts = victim.cursor
        return None

    def _cut(self, victim: KeyRange, cuts: Sequence[bytes]) -> None:
        ends = [*cuts[1:], victim.end]
        for cut, end in zip(cuts, ends, strict=True):
            self._wait(KeyRange(cut, end))
        victim.end = cuts[0]
        victim.pages = 0
        self._credit -= len(cuts)

    def _worth(self, of: KeyRange) -> tuple[int, int]:
        """Where a cut helps most: many known directories ahead, else what has given much goes on so."""
        return len(self._hints_in(of)), of.pages

    def _hints_in(self, of: KeyRange) -> list[bytes]:
        first = bisect_right(self._hints, of.cursor)
        last = len(self._hints) if of.end is None else bisect_left(self._hints, of.end)
        return self._hints[first:last]

    def _unexplored(self, of: KeyRange) -> bytes | None:
        """The directory nearest to the root in which ``of`` stands and whose children are not known."""
        if len(self._explored) >= MAX_HINTS:
            return None
        shared = len(of.cursor) if of.end is None else _common(of.cursor, of.end)
        first = len(self.prefix)
        if of.end is not None:
            first = max(first, of.cursor.rfind(_DELIMITER, 0, shared) + 1)
        while True:
            directory = of.cursor[:first]
            known = self._explored.get(directory, b"")
            if known == b"" or (known is not None and of.cursor > known and not of.cursor.startswith(known)):
                return directory
            slash = of.cursor.find(_DELIMITER, first)
            if slash < 0:
                return None
            first = slash + 1


def evenly(cuts: Sequence[bytes], count: int) -> list[bytes]:
    """At most ``count`` of ``cuts``, evenly spaced, in order."""
    if len(cuts) <= count:
        return list(cuts)
    return [cuts[(2 * i + 1) * len(cuts) // (2 * count)] for i in range(count)]


def cut_points(after: bytes, end: bytes | None, common: int, alphabet: Sequence[str]) -> list[bytes]:
    """Keys strictly between ``after`` and ``end`` where a range might be cut, in order.

    ``common`` bytes are those that the page around ``after`` shares: cuts behind them would be too near.
    """
    low = after.decode("utf-8", "surrogateescape")
    high = None if end is None else end.decode("utf-8", "surrogateescape")
    depth = len(after[:common].decode("utf-8", "replace"))
    shared = 0 if high is None else _common_text(low, high)
    found = {
        key_order(low[:position] + character)
        for position in range(shared, max(depth, shared + 1))
        for character in alphabet[bisect_right(alphabet, low[position : position + 1]) :]
    }
    if high is not None:
        found |= {
            key_order(high[:position] + character)
            for position in range(shared, len(high))
            for character in alphabet[: bisect_left(alphabet, high[position])]
        }
    return sorted(key for key in found if after < key and (end is None or key < end))


def is_partition(spans: Sequence[Span]) -> bool:
    """Whether ``spans``, in order, cover everything from the first key to the end exactly once."""
    return bool(spans) and (
        spans[0].after == b""
        and spans[-1].upto is None
        and all(left.upto == right.after for left, right in pairwise(spans))
    )


def _common(one: bytes, other: bytes) -> int:
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(i for i in range(length) if one[i] != other[i])


def _common_text(one: str, other: str) -> int:
    length = min(len(one), len(other))
    return next((i for i in range(length) if one[i] != other[i]), length)
