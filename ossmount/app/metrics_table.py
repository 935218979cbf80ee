"""Every metric of a mount in one table: name, meaning, unit, where it is counted, how processes merge.

What may live here: the table. Who may touch it: whoever counts something new. docs/metrics.md, the Grafana
dashboard and ``ossmount stats`` are checked against it by tests. Names are those of Prometheus' guidelines:
base units, ``_total`` for counters; no label ever holds a key, a path or anything else without bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PREFIX = "ossmount_"


class Type(Enum):
    """Prometheus' types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(Enum):
    """How the values of several processes become one."""

    SUM = "sum over all processes since the mount began, ended ones included"
    LIVING = "sum over living processes"
    LARGEST = "largest of living processes: all tell of the same thing"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric without its prefix.

    ``sources`` are dotted names of counters; one after ``-`` is subtracted, ``worker:`` or ``prefetcher:``
    before it takes only such processes. ``label`` and ``value`` tell series of one name apart.
    ``each`` makes a series of every counter below ``sources``, with its name as the label's value.
    """

    name: str
    help: str
    type: Type
    sources: tuple[str, ...]
    label: str = ""
    value: str = ""
    each: bool = False


C, G, H = Type.COUNTER, Type.GAUGE, Type.HISTOGRAM


def _family(name: str, text: str, label: str, series: dict[str, str]) -> tuple[Metric, ...]:
    return tuple(Metric(name, text, C, (source,), label, value) for value, source in series.items())


KERNEL = (
    *_family(
        "requests_total",
        "Requests of the kernel that were answered.",
        "operation",
        {
            "lookup": "fs.lookups",
            "getattr": "fs.getattrs",
            "readdir": "fs.readdirs",
            "open": "fs.opens",
            "read": "fs.reads",
            "getxattr": "fs.getxattrs",
        },
    ),
    Metric(
        "first_reads_total",
        "READ requests from offset 0; opens without one were served from the page cache.",
        C,
        ("fs.first_reads",),
    ),
    Metric(
        "opens_unasked",
        "Above zero once the kernel opens files without asking: opens are not counted any more.",
        G,
        ("fs.opens_unasked",),
    ),
    Metric("read_bytes_total", "Bytes handed to the kernel in answers to READ.", C, ("fs.read_bytes",)),
    Metric("read_seconds", "Time from a READ request to its answer.", H, ("fs.read_latency",)),
    Metric(
        "read_wait_seconds_total",
        "Time that READ requests were stalled for bytes that were not in memory, all requests together.",
        C,
        ("fetcher.wait_seconds",),
    ),
    Metric("read_errors_total", "Failed READ requests by error.", C, ("errors",), "error", each=True),
    Metric(
        "stale_reads_total",
        "READ requests answered with ESTALE: the object was changed or deleted after indexing.",
        C,
        ("errors.ObjectChanged", "errors.ObjectMissing"),
    ),
    Metric("read_deadlines_total", "READ requests given up at the deadline.", C, ("fetcher.deadlines",)),
)

LAYERS = (
    *_family(
        "read_blocks_total",
        "Blocks that READ requests needed, by the layer that had them.",
        "layer",
        {
            "memory": "worker:fetcher.memory_hits",
            "in_flight": "worker:fetcher.shared",
            "prefetcher": "worker:shelves.found",
            "disk": "worker:fetcher.cache_hits",
            "store": "worker:fetcher.store_blocks",
        },
    ),
    *_family(
        "page_cache_pushes_total",
        "Pushes into the kernel's page cache.",
        "result",
        {"stored": "pages.stored", "refused": "pages.refused", "short_of_memory": "pages.short_of_memory"},
    ),
    Metric(
        "page_cache_pushed_bytes_total",
        "Bytes pushed into the kernel's page cache.",
        C,
        ("pages.stored_bytes",),
    ),
    Metric(
        "open_waits_total",
        "Opens that waited for bytes on their way into the page cache.",
        C,
        ("arrivals.waits",),
    ),
    Metric(
        "open_waits_in_vain_total",
        "Opens that waited for bytes that did not come in time.",
        C,
        ("arrivals.in_vain",),
    ),
    Metric(
        "shelf_waits_in_vain_total",
        "READs that waited for a block that did not come in time.",
        C,
        ("shelves.in_vain",),
    ),
    *_family(
        "disk_cache_lookups_total",
        "Blocks that were looked for in the disk cache, by reads and ahead of them.",
        "result",
        # The cache's own count of misses is too low: who asks whether it has a block looks nothing up.
        {"hit": "fetcher.cache_hits", "miss": "fetcher.store_blocks"},
    ),
    Metric("disk_cache_read_bytes_total", "Bytes read from the disk cache.", C, ("disk.hit_bytes",)),
    Metric("disk_cache_written_bytes_total", "Bytes kept in the disk cache.", C, ("disk.stored_bytes",)),
    Metric(
        "disk_cache_declined_blocks_total",
        "Blocks not kept: the cache is full, or the disk too slow for a stream.",
        C,
        ("disk.declined", "fetcher.left_out"),
    ),
    Metric("disk_cache_bad_blocks_total", "Blocks with a wrong checksum.", C, ("disk.bad_blocks",)),
    Metric("disk_cache_failures_total", "Failed accesses to the cache directory.", C, ("disk.failures",)),
    Metric("disk_cache_bytes", "Bytes in the disk cache, of all mounts that share it.", G, ("disk.bytes",)),
    Metric("disk_cache_capacity_bytes", "Limit of the disk cache.", G, ("disk.capacity",)),
    Metric("memory_cache_bytes", "Bytes in the memory caches.", G, ("memory.bytes",)),
)

STORE = (
    *_family(
        "store_requests_total",
        "Requests sent to stores, repeated and failed ones included.",
        "operation",
        {"get": "store.get_requests", "head": "store.head_requests", "list": "store.list_requests"},
    ),
    *_family(
        "store_errors_total",
        "Requests to stores that failed.",
        "operation",
        {"get": "store.get_errors", "head": "store.head_errors", "list": "store.list_errors"},
    ),
    Metric("store_received_bytes_total", "Bytes of objects that arrived.", C, ("store.get_bytes",)),
    Metric("store_get_seconds", "Time of a GET request to a store.", H, ("store_details.latency.get",)),
    Metric("store_retries_total", "Requests that were made again.", C, ("store_details.repeats",)),
    Metric("store_throttled_total", "Answers that ask for fewer requests.", C, ("fetcher.throttled",)),
    Metric("store_hedges_total", "Second requests for what took long.", C, ("fetcher.hedges",)),
    Metric("store_hedges_won_total", "Second requests that came first.", C, ("fetcher.hedges_won",)),
    Metric("store_requests_in_flight", "Fetches under way.", G, ("fetcher.in_flight",)),
    Metric("store_bytes_in_flight", "Bytes of fetches under way.", G, ("fetcher.bytes_in_flight",)),
    Metric("store_requests_limit", "Fetches that may be under way at present.", G, ("fetcher.limit",)),
    Metric("store_requests_queued", "Fetches that wait for their turn.", G, ("fetcher.queued",)),
    Metric(
        "overread_bytes",
        "Bytes that READ requests had brought from the store or the disk cache and that went neither to the"
        " program nor into the page cache.",
        G,
        (
            "worker:fetcher.bytes_fetched",
            "worker:disk.hit_bytes",
            "-worker:fs.read_bytes",
            "-worker:pages.stored_bytes",
        ),
    ),
)

AHEAD = (
    Metric("prefetched_files_total", "Files fetched ahead of programs.", C, ("prefetcher.files",)),
    Metric(
        "prefetched_bytes_total", "Bytes fetched by prefetchers.", C, ("prefetcher:fetcher.bytes_fetched",)
    ),
    Metric(
        "introductions_total",
        "Listings by which prefetchers introduced files to the kernel.",
        C,
        ("prefetcher.introduced",),
    ),
    Metric("prefetch_pending_files", "Files fetched ahead and not opened yet.", G, ("prefetcher.pending",)),
    Metric(
        "prefetch_pending_bytes",
        "Bytes of files fetched ahead and not opened yet.",
        G,
        ("prefetcher.pending_bytes",),
    ),
    Metric("prefetch_window_files", "Files that may be pending at present.", G, ("prefetcher.window",)),
    Metric("warmed_files_total", "Files dealt with by warming.", C, ("warm.total.files",)),
    Metric("warmed_bytes_total", "Bytes dealt with by warming.", C, ("warm.total.bytes",)),
    Metric("warm_failures_total", "Files that warming could not fetch.", C, ("warm.total.failed_files",)),
)

MOUNT = (
    Metric("index_generation", "Generation that the mount shows.", G, ("index.generation",)),
    Metric("index_created_timestamp_seconds", "When the index was made.", G, ("index.created",)),
    Metric("index_age_seconds", "How old the index is.", G, ("index.age",)),
    Metric("index_files", "Files of the mount.", G, ("index.files",)),
    Metric("index_bytes", "Bytes of all files of the mount.", G, ("index.bytes",)),
    Metric("processes", "Living processes.", G, ("processes.living",), "kind", each=True),
    Metric("process_exits_total", "Processes that ended.", C, ("processes.ended",), "kind", each=True),
)

METRICS: tuple[Metric, ...] = (*KERNEL, *LAYERS, *STORE, *AHEAD, *MOUNT)

GAUGES: dict[str, Merge] = {
    "cache.bytes": Merge.LARGEST,
    "cache.capacity": Merge.LARGEST,
    "disk.bytes": Merge.LARGEST,
    "disk.capacity": Merge.LARGEST,
    "memory.bytes": Merge.LIVING,
    "memory.capacity": Merge.LIVING,
    "fetcher.in_flight": Merge.LIVING,
    "fetcher.bytes_in_flight": Merge.LIVING,
    "fetcher.queued": Merge.LIVING,
    "fetcher.limit": Merge.LIVING,
    # Every prefetcher plans for all and fetches its share.
    "prefetcher.planned": Merge.LARGEST,
    "prefetcher.pending": Merge.LARGEST,
    "prefetcher.pending_bytes": Merge.LARGEST,
    "prefetcher.window": Merge.LARGEST,
    "prefetcher.opened": Merge.LARGEST,
    "index.generation": Merge.LARGEST,
    "index.created": Merge.LARGEST,
    "index.files": Merge.LARGEST,
    "index.bytes": Merge.LARGEST,
}
"""Counters that may fall, with how they merge; all others are ``Merge.SUM``."""


def merge_of(source: str) -> Merge:
    """How the counter with that dotted name merges."""
    return GAUGES.get(source, Merge.SUM)


def sources_of(metric: Metric) -> list[tuple[str, str, int]]:
    """(kind of process or "", dotted name, +1 or -1) of each source."""
    parsed = []
    for source in metric.sources:
        sign = -1 if source.startswith("-") else 1
        kind, _, name = source.lstrip("-").rpartition(":")
        parsed.append((kind, name, sign))
    return parsed
