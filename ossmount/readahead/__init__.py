"""Reading ahead: pure planners, and the one place with threads, the fetcher.

Pure (no I/O, no clock): :mod:`window`, :mod:`coalescing`, :mod:`dataset`, :mod:`hedging`,
:mod:`concurrency`, :mod:`messages`. Doing: :mod:`fetcher`, :mod:`threads`, :mod:`transfer`,
:mod:`prefetcher`. May know level 0 and trio.
"""

from ossmount.readahead.fetcher import Fetcher

__all__ = ["Fetcher"]
