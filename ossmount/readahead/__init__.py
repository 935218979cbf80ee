"""Reading ahead: pure planners, and the one place with threads, the fetcher.

Pure (no I/O, no clock): :mod:`window`, :mod:`coalescing`, :mod:`dataset` (with :mod:`scope` and
:mod:`inode_set`), :mod:`hedging`, :mod:`concurrency`, :mod:`messages`. Doing: :mod:`fetcher` and what it is
made of (:mod:`flight`, :mod:`queues`, :mod:`recent`, :mod:`statistics`; :mod:`delivery`, :mod:`transfer`,
:mod:`pouring`, :mod:`keeping`, :mod:`threads`); :mod:`prefetcher`, :mod:`warming`. Between processes:
:mod:`observer`, :mod:`arrivals`, :mod:`acquaintance`, :mod:`shelves`. May know level 0 and trio.
"""

from ossmount.readahead.acquaintance import Acquaintance, Acquaintances
from ossmount.readahead.arrivals import Arrivals
from ossmount.readahead.dataset import DatasetPlanner
from ossmount.readahead.fetcher import Fetcher
from ossmount.readahead.messages import KNOWN_ORDER, observation_pipe
from ossmount.readahead.observer import Attention, Observer
from ossmount.readahead.prefetcher import Prefetcher
from ossmount.readahead.warming import Warming

__all__ = [
    "KNOWN_ORDER",
    "Acquaintance",
    "Acquaintances",
    "Arrivals",
    "Attention",
    "DatasetPlanner",
    "Fetcher",
    "Observer",
    "Prefetcher",
    "Warming",
    "observation_pipe",
]
