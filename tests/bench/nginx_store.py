"""The benchmark's object store: nginx with static objects, listings in Lua, latency and bandwidth limits.

``with NginxStore(root, latency=0.02) as store:`` serves every directory below ``root`` as a bucket, path
style and virtual-hosted (``<bucket>.oss.test``), without checking signatures, on a free loopback port.
``root/<bucket>.keys`` is written here and feeds the listings.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from tests.bench.processes import children_of

LUA = Path(__file__).with_name("store.lua")
DEADLINE = 20.0
"""Seconds until a store that does not answer counts as broken."""


def write_keys(bucket: Path) -> int:
    """Writes ``<bucket>.keys`` beside the directory ``bucket``; returns the number of objects."""
    rows = []
    for directory, _, names in os.walk(bucket):
        for name in names:
            path = Path(directory) / name
            status = path.stat()
            etag = f"{int(status.st_mtime):x}-{status.st_size:x}"
            when = datetime.fromtimestamp(int(status.st_mtime), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            rows.append(f"{path.relative_to(bucket)}\t{status.st_size}\t{etag}\t{when}\n".encode())
    rows.sort(key=lambda row: row.split(b"\t", 1)[0])
    bucket.with_suffix(".keys").write_bytes(b"".join(rows))
    return len(rows)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def available() -> bool:
    """Whether nginx and its Lua module are installed."""
    return nginx_binary() is not None and Path("/usr/lib/nginx/modules/ngx_http_lua_module.so").exists()


def nginx_binary() -> str | None:
    """The nginx program; Debian keeps it in sbin, which may not be on PATH."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


@dataclass
class NginxStore:
    """A running store. ``latency`` in seconds per request, ``rate`` in bytes/s per connection (0: none).

    ``names``: the buckets to list (default: every directory); a listing of a million keys takes seconds
    to load, which a store that does not need it should not spend.
    """

    root: Path
    latency: float = 0.0
    rate: int = 0
    workers: int = 1
    names: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self.port = free_port()
        self.home = self.root / f".nginx-{self.port}"
        self.home.mkdir()
        for bucket in self.buckets():
            if not bucket.with_suffix(".keys").exists():
                write_keys(bucket)
        config = self.home / "nginx.conf"
        config.write_text(self._config())
        binary = nginx_binary()
        if binary is None:
            raise RuntimeError("nginx is not installed: run packaging/bootstrap.sh --bench")
        self._process = subprocess.Popen([binary, "-c", str(config), "-p", str(self.home)])
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def reload(self) -> None:
        """Loads listings and files anew; connections that are open then are closed once they are idle."""
        before = children_of(self.pid)
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + DEADLINE
        while set(before) & set(children_of(self.pid)) or not children_of(self.pid):
            if time.monotonic() > deadline:
                raise RuntimeError("the store did not load anew")
            time.sleep(0.02)  # nginx tells nobody
        self._wait()

    @property
    def url(self) -> str:
        """The endpoint URL, path style."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The master process; its children do the work."""
        return self._process.pid

    def buckets(self) -> list[Path]:
        """The directories that are served as buckets."""
        found = (p for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        return sorted(p for p in found if not self.names or p.name in self.names)

    def requests(self) -> dict[str, int]:
        """Requests by kind since the start: object GETs, HEADs and listings."""
        with urllib.request.urlopen(f"{self.url}/-/requests", timeout=DEADLINE) as answer:  # noqa: S310 - our own
            return {k: int(v) for k, v in (line.split() for line in answer.read().decode().splitlines())}

    def cpu_seconds(self) -> float:
        """CPU time of the store's processes so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        total = 0
        for pid in [str(self.pid), *children]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / ticks

    def _wait(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                self.requests()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)  # a fresh process has no event to wait on
            else:
                return

    def _config(self) -> str:
        loads = "\n".join(
            f'store.load("{b.name}", "{b.with_suffix(".keys").absolute()}")' for b in self.buckets()
        )
        rate = f"limit_rate {self.rate};" if self.rate else ""
        # A directory is no object; without this nginx answers 403 or redirects where a store says 404.
        answer = """set $store_missing "";
      if (!-f $request_filename) { set $store_missing yes; }
      access_by_lua_block { ngx.shared.counts:incr(ngx.req.get_method(), 1, 0); store.latency()
        if ngx.var.store_missing ~= "" then return ngx.exit(404) end }"""
        return f"""
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
worker_processes {self.workers};
worker_rlimit_nofile 65536;
daemon off;
user {"root" if os.geteuid() == 0 else ""};
pid {self.home}/nginx.pid;
error_log {self.home}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 10000000; etag on;
  types {{}} default_type application/octet-stream;
  open_file_cache max=8000 inactive=600s; open_file_cache_valid 600s;
  client_body_temp_path {self.home}; proxy_temp_path {self.home}; fastcgi_temp_path {self.home};
  uwsgi_temp_path {self.home}; scgi_temp_path {self.home};
  lua_package_path "{LUA.parent}/?.lua;;";
  lua_shared_dict counts 1m;
  init_by_lua_block {{ store = require "store"
{loads} }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096; server_name _;
    set $store_latency {self.latency};
    location = /-/requests {{ content_by_lua_block {{
      for _, kind in ipairs({{"GET", "HEAD", "LIST"}}) do
        ngx.say(kind, " ", ngx.shared.counts:get(kind) or 0) end }} }}
    location ~ ^/(?<bucket>[^/]+)/?$ {{ content_by_lua_block {{
      ngx.shared.counts:incr("LIST", 1, 0)
      store.list(ngx.var.bucket) }} }}
    location / {{
      root {self.root.absolute()}; {rate}
      {answer} }}
  }}
  server {{
    listen 127.0.0.1:{self.port}; server_name ~^(?<bucket>[^.]+)[.]oss[.]test$;
    set $store_latency {self.latency};
    location = / {{ content_by_lua_block {{
      ngx.shared.counts:incr("LIST", 1, 0)
      store.list(ngx.var.bucket) }} }}
    location / {{
      root {self.root.absolute()}/$bucket; {rate}
      {answer} }}
  }}
}}
"""
