from __future__ import annotations

import threading

from ossmount.cache.memory import MemoryCache, NullCache
from tests.unit.cache.blocks import block, content


def test_least_recently_used_goes_first() -> None:
    cache = MemoryCache(300)
    one, two, three, four = (block(k, 100) for k in "abcd")
    for made in (one, two, three):
        cache.put(made, b"x" * 100)
    cache.get(one)
    cache.put(four, b"y" * 100)
    assert cache.get(two) is None
    assert cache.get(one) == b"x" * 100
    assert cache.get(four) == b"y" * 100
    assert (cache.statistics().evictions, cache.statistics().bytes) == (1, 300)


def test_putting_again_does_not_count_twice() -> None:
    cache = MemoryCache(300)
    made = block("a", 100)
    for _ in range(5):
        cache.put(made, b"x" * 100)
    assert cache.statistics().bytes == 100
    assert cache.statistics().evictions == 0


def test_declines_what_is_too_large_or_of_the_wrong_length() -> None:
    cache = MemoryCache(300)
    cache.put(block("a", 301), b"x" * 301)
    cache.put(block("b", 10), b"x" * 9)
    assert cache.statistics().declined == 2
    assert cache.statistics().bytes == 0


def test_parts() -> None:
    cache = MemoryCache(300)
    made = block("a", 10)
    assert cache.get_range(made, 0, 2) is None
    cache.put(made, b"0123456789")
    assert cache.contains(made)
    assert cache.get_range(made, 3, 4) == b"3456"
    assert cache.get_range(made, 8, 9) == b"89"


def test_threads_never_see_wrong_bytes_nor_more_than_the_capacity() -> None:
    cache = MemoryCache(2000)
    wrong: list[str] = []

    def work(seed: int) -> None:
        for i in range(2000):
            key = str((i * 7 + seed) % 50)
            got = cache.get(block(key, 100))
            if got is not None and got != content(key, 100):
                wrong.append(key)
            cache.put(block(key, 100), content(key, 100))
            if cache.statistics().bytes > 2000:
                wrong.append("capacity")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_close_frees() -> None:
    cache = MemoryCache(300)
    cache.put(block("a", 10), b"x" * 10)
    cache.close()
    assert cache.statistics().bytes == 0


def test_null_cache_keeps_nothing() -> None:
    cache = NullCache()
    made = block("a", 1)
    cache.put(made, b"x")
    assert cache.get(made) is None
    assert cache.get_range(made, 0, 1) is None
    assert not cache.contains(made)
    assert (cache.statistics().misses, cache.statistics().declined) == (2, 1)
