"""Spans: one for each request to a store, the documented attributes and no others, and none lost at the end.

Touch it when another step gets a span.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ossmount.app.tracing import ENDPOINT_VARIABLE, SLOW_SECONDS, Traced, TracedReading, open_tracer
from ossmount.errors import ObjectMissing, StoreUnavailable
from ossmount.model import BlockId, Extent, ObjectId
from tests.support.command import command_home
from tests.support.memory_store import MemoryStore
from tests.support.mounting import needs_fuse

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra otel")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

URI = "s3://bucket"
OBJECT = ObjectId(URI, "dir/a", "", 3)


class Spans:
    """A tracer, and what it made."""

    def __init__(self) -> None:
        self._exporter = in_memory.InMemorySpanExporter()
        provider = sdk.TracerProvider()
        provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))
        self.tracer: Any = provider.get_tracer("test")

    def finished(self) -> list[tuple[str, dict[str, Any]]]:
        return [(span.name, dict(span.attributes)) for span in self._exporter.get_finished_spans()]

    def statuses(self) -> list[str]:
        return [span.status.status_code.name for span in self._exporter.get_finished_spans()]


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(URI, {f"dir/{name}": b"abc" for name in "abcde"}, page_size=2)


def test_a_get_is_one_span_with_its_key_and_range(memory: MemoryStore, spans: Spans) -> None:
    store = Traced(memory, spans.tracer)
    assert store.get_range(OBJECT, 1, 2) == b"bc"
    expected = {
        "ossmount.store": URI,
        "ossmount.key": "dir/a",
        "ossmount.start": 1,
        "ossmount.length": 2,
    }
    assert spans.finished() == [("store.get", expected)]


def test_a_head_is_one_span_with_its_key(memory: MemoryStore, spans: Spans) -> None:
    assert Traced(memory, spans.tracer).head("dir/b").size == 3
    assert spans.finished() == [("store.head", {"ossmount.store": URI, "ossmount.key": "dir/b"})]


def test_each_page_of_a_listing_is_one_span_without_its_keys(memory: MemoryStore, spans: Spans) -> None:
    pages = list(Traced(memory, spans.tracer).list("dir/"))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert memory.requests["LIST"] == 3
    assert spans.finished() == [("store.list", {"ossmount.store": URI, "ossmount.prefix": "dir/"})] * 3


def test_a_listing_that_fails_midway_is_a_span_with_the_error(memory: MemoryStore, spans: Spans) -> None:
    pages = Traced(memory, spans.tracer).list("dir/")
    next(pages)

    def fail(verb: str, key: str) -> None:
        raise StoreUnavailable(f"{verb} {key}")

    memory.fault = fail
    with pytest.raises(StoreUnavailable):
        next(pages)
    assert spans.statuses() == ["UNSET", "ERROR"]


def test_an_error_goes_on_and_stays_in_its_span(memory: MemoryStore, spans: Spans) -> None:
    store = Traced(memory, spans.tracer)
    with pytest.raises(ObjectMissing):
        store.head("dir/none")
    assert spans.statuses() == ["ERROR"]


class Reads:
    """A fetcher whose clock the test turns."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    async def read(self, extent: Extent, offset: int, size: int) -> bytes:
        self._clock[0] += self._seconds
        return b"abc"

    def at_hand(self, block: BlockId) -> bytes | None:
        return None


@pytest.mark.trio
@pytest.mark.parametrize(("seconds", "count"), [(SLOW_SECONDS / 2, 0), (SLOW_SECONDS * 2, 1)])
async def test_only_a_slow_read_is_a_span(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, seconds: float, count: int
) -> None:
    clock = [0.0]
    reading = TracedReading(Reads(clock, seconds), spans.tracer)
    with monkeypatch.context() as patched:
        patched.setattr("ossmount.app.tracing.time.perf_counter", lambda: clock[0])
        assert await reading.read(Extent(OBJECT, 0, 3), 0, 3) == b"abc"
    expected = {"ossmount.key": "dir/a", "ossmount.offset": 0, "ossmount.size": 3}
    assert spans.finished() == [("slow read", expected)] * count


# -- to a collector ----------------------------------------------------------------------------------------


class Collector:
    """Takes OTLP over HTTP on a free loopback port."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def spans(self) -> list[Any]:
        """Every span that arrived."""
        service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        requests = [service.ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        scopes = [scope for r in requests for resource in r.resource_spans for scope in resource.scope_spans]
        return [span for scope in scopes for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip(
        "opentelemetry.exporter.otlp.proto.http.trace_exporter", reason="needs the extra otel"
    )
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(10)


def test_there_is_no_tracer_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    assert open_tracer() is None


@needs_fuse
@pytest.mark.fuse
def test_a_mount_that_ends_has_sent_a_span_for_each_request(collector: Collector, tmp_path: Path) -> None:
    """Unmounted long before the SDK would send a batch by itself."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("one", "two"):
        (source / name).write_text(name)
    with command_home(tmp_path / "home", {ENDPOINT_VARIABLE: collector.url}) as home:
        mount = home.mount("--workers", "1", "--prefetchers", "0", f"file://{source}/")
        assert (mount.path / "one").read_text() == "one"
        assert (mount.path / "two").read_text() == "two"
        mount.umount()
    gets = [span for span in collector.spans() if span.name == "store.get"]
    keys = [a.value.string_value for span in gets for a in span.attributes if a.key == "ossmount.key"]
    assert sorted(Path(key).name for key in keys) == ["one", "two"]


@needs_fuse
@pytest.mark.fuse
def test_a_collector_that_is_away_harms_no_mount(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_text("one")
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # connects, and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        home = stack.enter_context(command_home(tmp_path / "home", {ENDPOINT_VARIABLE: url}))
        mount = home.mount(f"file://{source}/")
        assert (mount.path / "one").read_text() == "one"
        mount.umount()
        assert home.left_behind() == []
