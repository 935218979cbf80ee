"""OpenTelemetry traces: a span for each request to a store and for each slow read. An optional extra.

Spans are made only where the packages of the extra ``otel`` are installed and
``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; the other ``OTEL_*`` variables hold as the SDK documents them.
Who may touch it: whoever wants to see another step. Keys are attributes of spans here, as nowhere else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from ossmount.fs.filesystem import Reading
from ossmount.model import BlockId, Extent, ListPage, ObjectId, ObjectInfo
from ossmount.protocols import ObjectStore

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"

SLOW_SECONDS = 0.1
"""A read that takes longer than this has a span: the usual ones would drown it, and cost 20 µs each."""


FLUSH_SECONDS = 1.0
"""How long a process that ends waits for a collector; the supervisor kills one that takes 5 s."""


class Tracer(Protocol):
    """What is used of ``opentelemetry.trace.Tracer``. Times are nanoseconds since the epoch."""

    def start_as_current_span(
        self, name: str, *, attributes: Mapping[str, str | int], start_time: int | None = None
    ) -> AbstractContextManager[Any]:
        """A span that ends with the block, with the error that left it."""
        ...

    def start_span(self, name: str, *, attributes: Mapping[str, str | int], start_time: int) -> Any:
        """A span to be ended with ``end()``."""
        ...


class ExportingTracer:
    """A tracer of the SDK whose provider can be made to send what it holds."""

    def __init__(self, provider: Any) -> None:
        tracer: Tracer = provider.get_tracer("ossmount")
        self._provider = provider
        self.start_as_current_span = tracer.start_as_current_span
        self.start_span = tracer.start_span

    def flush(self) -> None:
        """Sends every span that has ended, for at most ``FLUSH_SECONDS``.

        In a thread of its own: the SDK's ``force_flush`` heeds no timeout while a collector is away.
        """
        sending = threading.Thread(target=self._provider.force_flush, name="spans", daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)


def open_tracer() -> ExportingTracer | None:
    """A tracer of this process, after the fork: its exporter has a thread. None where none is wanted."""
    if not os.environ.get(ENDPOINT_VARIABLE) or find_spec("opentelemetry") is None:
        return None
    try:
        sdk = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        resources = import_module("opentelemetry.sdk.resources")
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        return None
    resource = resources.Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "ossmount")})
    provider = sdk.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return ExportingTracer(provider)


class Traced:
    """A store whose every request is a span. An error ends up in its span, and goes on."""

    def __init__(self, inner: ObjectStore, tracer: Tracer) -> None:
        self._inner = inner
        self._span = tracer.start_as_current_span
        self._flush = tracer.flush if isinstance(tracer, ExportingTracer) else None

    def __repr__(self) -> str:
        return f"Traced({self._inner!r})"

    @property
    def uri(self) -> str:
        """See ``protocols.ObjectStore``."""
        return self._inner.uri

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """See ``protocols.ObjectStore``. Each page is one request; the end is none."""
        began = time.time_ns()
        try:
            for page in self._inner.list(prefix, start_after, delimiter):
                self._listed(prefix, began)
                yield page
                began = time.time_ns()
        except Exception as error:
            self._listed(prefix, began, error)

    def _listed(self, prefix: str, began: int, failure: Exception | None = None) -> None:
        """The span of a page, or of its failure, which goes on from here."""
        attributes = {"ossmount.store": self.uri, "ossmount.prefix": prefix}
        with self._span("store.list", attributes=attributes, start_time=began):
            if failure is not None:
                raise failure

    def head(self, key: str) -> ObjectInfo:
        """See ``protocols.ObjectStore``."""
        with self._span("store.head", attributes={"ossmount.store": self.uri, "ossmount.key": key}):
            return self._inner.head(key)

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """See ``protocols.ObjectStore``."""
        attributes: dict[str, str | int] = {
            "ossmount.store": self.uri,
            "ossmount.key": target.key,
            "ossmount.start": start,
            "ossmount.length": length,
        }
        with self._span("store.get", attributes=attributes):
            return self._inner.get_range(target, start, length)

    def close(self) -> None:
        """See ``protocols.ObjectStore``. Sends the spans: a child ends without the SDK's exit handlers."""
        self._inner.close()
        if self._flush is not None:
            self._flush()


class TracedReading:
    """A fetcher whose slow reads leave a span each."""

    def __init__(self, inner: Reading, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer

    def __repr__(self) -> str:
        return f"TracedReading({self._inner!r})"

    def read_nowait(self, extent: Extent, offset: int, size: int) -> bytes | memoryview | None:
        """As :meth:`ossmount.readahead.fetcher.Fetcher.read_nowait`, which is never slow."""
        return self._inner.read_nowait(extent, offset, size)

    async def read(self, extent: Extent, offset: int, size: int) -> bytes:
        """As :meth:`ossmount.readahead.fetcher.Fetcher.read`."""
        began = time.perf_counter()
        try:
            return await self._inner.read(extent, offset, size)
        finally:
            seconds = time.perf_counter() - began
            if seconds >= SLOW_SECONDS:
                attributes: dict[str, str | int] = {
                    "ossmount.key": extent.object.key,
                    "ossmount.offset": offset,
                    "ossmount.size": size,
                }
                start = time.time_ns() - int(seconds * 1e9)
                self._tracer.start_span("slow read", attributes=attributes, start_time=start).end()

    def caches(self, extent: Extent) -> bool:
        """As :meth:`ossmount.readahead.fetcher.Fetcher.caches`."""
        return self._inner.caches(extent)

    def at_hand(self, block: BlockId) -> bytes | None:
        """As :meth:`ossmount.readahead.fetcher.Fetcher.at_hand`."""
        return self._inner.at_hand(block)
