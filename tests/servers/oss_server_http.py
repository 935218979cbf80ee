"""The OSS test server's HTTP/1.1: reading requests, addressing, the operations, writing answers.

Hand-written on sockets because ``http.server`` spends more on parsing headers than a GET of 100 KB costs.
Touch it when a client needs another operation.
"""

from __future__ import annotations

import re
import socketserver
import threading
import time
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import unquote, unquote_plus, urlsplit

from tests.servers import oss_server_answers as answers
from tests.servers.oss_server_answers import Answer, Fault
from tests.servers.oss_server_objects import Buckets, StoredObject
from tests.servers.oss_server_signatures import Account, SignedRequest, verify

_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
_REASONS = {200: "OK", 204: "No Content", 206: "Partial Content"}


@dataclass(eq=False)
class ServerState:
    """What all connections share, and what a test may turn while the server runs."""

    region: str
    accounts: dict[str, Account]
    buckets: Buckets = field(default_factory=Buckets)
    domain: str = "oss.test"
    """Hosts ``<bucket>.<domain>`` are virtual-hosted."""
    cnames: dict[str, str] = field(default_factory=dict)
    """Hosts that stand for a bucket."""
    latency: float = 0.0
    """Seconds every answer waits."""
    clock_offset: float = 0.0
    """Seconds by which the server's clock is ahead."""
    faults: deque[Fault] = field(default_factory=deque)
    """Answers for the next requests, whatever they ask."""
    requests: Counter[str] = field(default_factory=Counter)
    """Requests by operation: GET, HEAD, LIST, PUT, DELETE, INFO."""
    sent: int = 0
    """Bytes of objects in answers to GET."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, operation: str) -> None:
        """Adds one request."""
        with self.lock:
            self.requests[operation] += 1

    def count_sent(self, data: bytes) -> bytes:
        """Adds the body of an answer; gives it back."""
        with self.lock:
            self.sent += len(data)
        return data

    def take_fault(self) -> Fault | None:
        """The fault that a test ordered for this request."""
        with self.lock:
            return self.faults.popleft() if self.faults else None

    def now(self) -> float:
        """The server's clock."""
        return time.time() + self.clock_offset


class Connection(socketserver.StreamRequestHandler):
    """One client connection: requests until it closes."""

    disable_nagle_algorithm = True
    wbufsize = 0
    server: OssHttpServer

    def handle(self) -> None:
        """Answers until the client goes away."""
        try:
            while self._answer_one():
                pass
        except (ConnectionError, TimeoutError):
            return

    def _answer_one(self) -> bool:
        head = read_head(self.rfile)
        if head is None:
            return False
        method, target, headers = head
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = read_body(self.rfile, headers)
        state = self.server.state
        if state.latency:
            time.sleep(state.latency)
        answer = answer_request(state, method, target, headers, body)
        self.request.sendmsg(serialize(answer, method, state, headers))
        return headers.get("connection", "").lower() != "close"


class OssHttpServer(socketserver.ThreadingTCPServer):
    """The listening socket."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512
    """Hundreds of connections are opened at once by a reader with as many threads."""

    def __init__(self, state: ServerState, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Connection)
        self.state = state


def read_head(stream: BinaryIO) -> tuple[str, str, dict[str, str]] | None:
    """Method, target and headers of the next request; None at the end of the connection."""
    line = stream.readline(65536)
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := stream.readline(65536)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("utf-8").partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, target, headers


def read_body(stream: BinaryIO, headers: dict[str, str]) -> bytes:
    """The body, of a stated length or in chunks."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return stream.read(int(headers.get("content-length", "0")))
    parts = []
    while size := int(stream.readline().split(b";")[0], 16):
        parts.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(parts)


def serialize(answer: Answer, method: str, state: ServerState, request: dict[str, str]) -> list[bytes]:
    """The answer as the buffers to send."""
    length = len(answer.body) if answer.length is None else answer.length
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Error')}",
        "Server: AliyunOSS",
        f"Date: {answers.http_date(state.now())}",
        f"Content-Length: {length}",
        "Connection: " + ("close" if request.get("connection", "").lower() == "close" else "keep-alive"),
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return [head] if method == "HEAD" or not answer.body else [head, answer.body]


def answer_request(
    state: ServerState, method: str, target: str, headers: dict[str, str], body: bytes
) -> Answer:
    """What the server says; never raises Fault."""
    request_id = f"{time.monotonic_ns():024X}"
    try:
        request = parse(state, method, target, headers)
        state.count(operation_of(request))
        if fault := state.take_fault():
            raise fault
        authorize(state, request)
        answer = OPERATIONS[operation_of(request)](state, request, body)
    except Fault as fault:
        answer = answers.fault_answer(fault, request_id, headers.get("host", ""))
        if method == "HEAD":  # no body: OSS puts the document into a header
            answer.headers["x-oss-err"] = b64encode(answer.body).decode()
    answer.headers["x-oss-request-id"] = request_id
    return answer


def parse(state: ServerState, method: str, target: str, headers: dict[str, str]) -> SignedRequest:
    """Bucket and key from path or Host header, and the decoded query."""
    path, _, query_text = target.partition("?")
    if path.startswith("http"):
        path = urlsplit(path).path
    query = {}  # form-encoded: clients write a space as "+" here, as %20 in the path
    for field_text in filter(None, query_text.split("&")):
        name, _, value = field_text.partition("=")
        query[unquote_plus(name)] = unquote_plus(value)
    host = headers.get("host", "").rsplit(":", 1)[0]
    if host in state.cnames:
        return SignedRequest(method, state.cnames[host], unquote(path[1:]), query, headers)
    if host.endswith("." + state.domain):
        return SignedRequest(method, host.removesuffix("." + state.domain), unquote(path[1:]), query, headers)
    bucket, _, key = path[1:].partition("/")
    return SignedRequest(method, unquote(bucket), unquote(key), query, headers)


def authorize(state: ServerState, request: SignedRequest) -> None:
    """Raises Fault unless the signature is right, or nobody signed and the bucket is public."""
    signer = verify(request, state.accounts, state.region, state.now())
    if signer is None:
        if request.method in {"GET", "HEAD"} and state.buckets.bucket(request.bucket).public:
            return
        raise Fault(403, "AccessDenied", "You have no right to access this object because of bucket acl.")


def operation_of(request: SignedRequest) -> str:
    """Which operation is asked for."""
    if request.key:
        return request.method
    if request.method == "GET":
        return "INFO" if request.query.keys() & {"bucketInfo", "location"} else "LIST"
    return "INFO"


def get_object(state: ServerState, request: SignedRequest, _: bytes) -> Answer:
    """GetObject with Range and If-Match."""
    stored = state.buckets.get(request.bucket, request.key)
    check_conditions(request, stored)
    headers = object_headers(stored)
    span = requested_range(request, len(stored.data))
    if span is None:
        return Answer(200, headers, state.count_sent(stored.data))
    start, stop = span
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(stored.data)}"
    return Answer(206, headers, state.count_sent(stored.data[start:stop]))


def head_object(state: ServerState, request: SignedRequest, _: bytes) -> Answer:
    """HeadObject."""
    stored = state.buckets.get(request.bucket, request.key)
    check_conditions(request, stored)
    return Answer(200, object_headers(stored), b"", len(stored.data))


def put_object(state: ServerState, request: SignedRequest, body: bytes) -> Answer:
    """PutObject."""
    stored = state.buckets.put(request.bucket, request.key, body)
    return Answer(200, {"ETag": f'"{stored.etag}"'})


def delete_object(state: ServerState, request: SignedRequest, _: bytes) -> Answer:
    """DeleteObject."""
    state.buckets.delete(request.bucket, request.key)
    return Answer(204)


def list_objects(state: ServerState, request: SignedRequest, _: bytes) -> Answer:
    """ListObjects and ListObjectsV2."""
    query = request.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    encoding, max_keys = query.get("encoding-type", ""), int(query.get("max-keys", "100"))
    if not 0 < max_keys <= 1000:
        raise Fault(400, "InvalidArgument", "max-keys must be between 1 and 1000")
    if query.get("list-type") != "2":
        page = state.buckets.list(request.bucket, prefix, query.get("marker", ""), delimiter, max_keys)
        return answers.listing_v1(page, encoding)
    token = query.get("continuation-token", "")
    start = urlsafe_b64decode(token).decode() if token else query.get("start-after", "")
    page = state.buckets.list(request.bucket, prefix, start, delimiter, max_keys)
    next_token = urlsafe_b64encode(page.next.encode()).decode()
    return answers.listing_v2(page, encoding, token, next_token)


def describe_bucket(state: ServerState, request: SignedRequest, _: bytes) -> Answer:
    """GetBucketInfo and GetBucketLocation."""
    state.buckets.bucket(request.bucket)
    if "location" in request.query:
        return answers.bucket_location(state.region)
    return answers.bucket_info(request.bucket, state.region)


OPERATIONS = {
    "GET": get_object,
    "HEAD": head_object,
    "PUT": put_object,
    "DELETE": delete_object,
    "LIST": list_objects,
    "INFO": describe_bucket,
}


def object_headers(stored: StoredObject) -> dict[str, str]:
    """Headers of GET and HEAD."""
    return {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": answers.http_date(stored.modified),
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "x-oss-object-type": "Normal",
        "x-oss-storage-class": "Standard",
    }


def check_conditions(request: SignedRequest, stored: StoredObject) -> None:
    """Raises Fault when If-Match names another version."""
    wanted = request.headers.get("if-match")
    if wanted is not None and wanted.strip('"') != stored.etag:
        raise Fault(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")


def requested_range(request: SignedRequest, size: int) -> tuple[int, int] | None:
    """Start and stop of the range; None for the whole object.

    OSS answers a range that does not lie in the object with the whole object, unless
    ``x-oss-range-behavior: standard`` asks for what RFC 9110 says.
    """
    match = _RANGE.match(request.headers.get("range", ""))
    if match is None or match.group(0) == "bytes=-":
        return None
    standard = request.headers.get("x-oss-range-behavior") == "standard"
    first, last = match[1], match[2]
    start = int(first) if first else max(0, size - int(last))
    stop = int(last) + 1 if first and last else size
    if start >= size or start >= stop:
        if standard:
            raise Fault(416, "InvalidRange", "The requested range cannot be satisfied.")
        return None
    if stop > size and not standard:
        return None
    return start, min(stop, size)
