"""An OSS server for tests, which checks signatures V1 and V4: what tests import.

In threads of the test process (:func:`oss_server`, and the fixtures ``oss`` and ``oss_shared``), or in a
process of its own for measurements (``python -m tests.servers.oss_server``). Touch it when tests need
another knob.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from tests.servers.oss_server_answers import Fault
from tests.servers.oss_server_http import OssHttpServer, ServerState
from tests.servers.oss_server_signatures import Account

ACCESS_KEY = "LTAItestaccesskey"
SECRET_KEY = "test-secret-of-nobody"
REGION = "cn-hangzhou"


@dataclass(frozen=True, slots=True)
class OssServer:
    """A running server. ``state`` has the knobs (latency, clock, public buckets, CNAMEs)."""

    endpoint_url: str
    port: int
    access_key: str
    secret_key: str
    region: str
    state: ServerState

    def create_bucket(self, bucket: str, public: bool = False) -> None:
        """Makes a bucket."""
        self.state.buckets.create(bucket, public)

    def put(self, bucket: str, key: str, data: bytes, modified: float | None = None) -> str:
        """Stores an object, in a new bucket where needed; gives its ETag without quotes."""
        with contextlib.suppress(Fault):
            return self.state.buckets.put(bucket, key, data, modified).etag
        self.create_bucket(bucket)
        return self.state.buckets.put(bucket, key, data, modified).etag

    def delete(self, bucket: str, key: str) -> None:
        """Removes an object."""
        self.state.buckets.delete(bucket, key)

    def add_account(self, access_key: str, secret: str, token: str = "") -> None:
        """Makes an access key valid; with ``token`` it is a temporary one."""
        self.state.accounts[access_key] = Account(secret, token)

    def remove_account(self, access_key: str) -> None:
        """Revokes an access key."""
        del self.state.accounts[access_key]

    def fail_next(self, status: int, code: str, times: int = 1) -> None:
        """The next requests get this error."""
        self.state.faults.extend(Fault(status, code, "ordered by the test") for _ in range(times))

    @property
    def requests(self) -> dict[str, int]:
        """Requests so far by operation (GET, HEAD, LIST, PUT, DELETE, INFO); absent means none."""
        with self.state.lock:
            return dict(self.state.requests)

    @property
    def sent(self) -> int:
        """Bytes of objects in answers to GET so far."""
        with self.state.lock:
            return self.state.sent

    def reset_requests(self) -> None:
        """Starts counting anew."""
        with self.state.lock:
            self.state.requests.clear()

    def environment(self) -> dict[str, str]:
        """Variables that give these credentials to OSS clients in a child process."""
        return {"OSS_ACCESS_KEY_ID": self.access_key, "OSS_ACCESS_KEY_SECRET": self.secret_key}


@contextlib.contextmanager
def oss_server(latency: float = 0.0, clock_offset: float = 0.0, port: int = 0) -> Iterator[OssServer]:
    """A server on a free loopback port, until the block ends."""
    state = ServerState(REGION, {ACCESS_KEY: Account(SECRET_KEY)}, latency=latency, clock_offset=clock_offset)
    with OssHttpServer(state, port) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        bound = int(http.server_address[1])
        try:
            yield OssServer(f"http://127.0.0.1:{bound}", bound, ACCESS_KEY, SECRET_KEY, REGION, state)
        finally:
            http.shutdown()
            thread.join()


def main() -> None:
    """Serves until standard input ends; prints the endpoint's URL first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--bucket", default="bench")
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--size", type=int, default=112640)
    options = parser.parse_args()
    with oss_server(options.latency, port=options.port) as server:
        for i in range(options.objects):
            server.put(options.bucket, f"object-{i:06}", i.to_bytes(8, "big") * (options.size // 8))
        print(server.endpoint_url, flush=True)  # noqa: T201 - the caller reads it
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            input()


if __name__ == "__main__":
    main()
