"""TLS before any server of these tests: a private authority, and a front that takes TLS off its bytes.

Bytes pass as they are, so signatures stay right (the client signs the front's host and port). What may live
here: certificates and the front. Touch it when tests need a certificate of another kind.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOLD_BY = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that tell some client whom to trust."""

_CHUNK = 1 << 18
_LIFE = datetime.timedelta(days=1)
_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """``context`` serves 127.0.0.1 and localhost. Clients must trust what is in ``file``: a bundle, as they
    are found on machines, in which the authority that matters is not the first.
    """

    file: Path
    context: ssl.SSLContext


def make_authority(folder: Path) -> Authority:
    """A new authority, whose files are in ``folder``; elliptic curves, which take a millisecond."""
    authority_key, server_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    authority = _authority_certificate(authority_key)
    file, served = folder / "authority.pem", folder / "server.pem"
    other = _authority_certificate(ec.generate_private_key(ec.SECP256R1()))
    file.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (other, authority)))
    secret = server_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate = _server_certificate(server_key, authority, authority_key)
    served.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served)
    return Authority(file, context)


def tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsets ``TOLD_BY``; whoever sets one meanwhile, the code under test too, is undone after the test."""
    for name in TOLD_BY:
        monkeypatch.setenv(name, "")  # an absent one would not be remembered
        monkeypatch.delenv(name)


def _authority_certificate(key: _Key) -> x509.Certificate:
    name = _name("ossmount test authority")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = _certificate(name, name, key).add_extension(x509.BasicConstraints(True, None), critical=True)
    return made.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def _server_certificate(key: _Key, authority: x509.Certificate, authority_key: _Key) -> x509.Certificate:
    """Names the authority's key: Python 3.13 and later insist on it."""
    hosts = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    )
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    made = _certificate(_name("localhost"), authority.subject, key)
    made = made.add_extension(x509.BasicConstraints(False, None), critical=True)
    made = made.add_extension(hosts, critical=False).add_extension(signer, critical=False)
    return made.sign(authority_key, hashes.SHA256())


def _certificate(subject: x509.Name, issuer: x509.Name, key: _Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@contextlib.contextmanager
def tls_front(authority: Authority, endpoint_url: str) -> Iterator[str]:
    """The https URL that leads to the plain server at ``endpoint_url``, until the block ends."""
    parts = urlsplit(endpoint_url)
    front = _Front(authority.context, (str(parts.hostname), int(parts.port or 80)))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        acceptor = threading.Thread(target=front.accept, args=(listener,), daemon=True)
        acceptor.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            front.close()


class _Front:
    """Its connections, each with two threads."""

    def __init__(self, context: ssl.SSLContext, target: tuple[str, int]) -> None:
        self._context = context
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def accept(self, listener: socket.socket) -> None:
        """Serves who connects, until ``listener`` is shut."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.add(thread)
            thread.start()

    def close(self) -> None:
        """Breaks what is open, and waits for its threads. Nothing is accepted any more."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            for end in self._open:
                _shut(end, socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), self._kept(client):
            tls = _Tls(client, self._context)
            tls.shake_hands()
            with self._kept(socket.create_connection(self._target)) as server:
                back = threading.Thread(target=_answers, args=(server, tls), daemon=True)
                back.start()
                _requests(tls, server)
                back.join()
        with self._lock:
            self._threads.discard(threading.current_thread())

    @contextlib.contextmanager
    def _kept(self, end: socket.socket) -> Iterator[socket.socket]:
        """``end`` until the block ends, or the front: then it breaks. Raises OSError."""
        with end:
            with self._lock:
                if self._closed:
                    raise ConnectionAbortedError
                self._open.add(end)
            try:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield end
            finally:
                with self._lock:
                    self._open.discard(end)


def _requests(tls: _Tls, server: socket.socket) -> None:
    how = socket.SHUT_RDWR
    with contextlib.suppress(OSError):
        while data := tls.receive():
            server.sendall(data)
        how = socket.SHUT_WR
    _shut(server, how)


def _answers(server: socket.socket, tls: _Tls) -> None:
    try:
        while data := server.recv(_CHUNK):
            tls.send(data)
        tls.end()
    except OSError:
        tls.abort()


def _shut(end: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(how)


class _Tls:
    """The server's side of TLS on a client's socket. One thread may receive while another sends.

    OpenSSL's own state takes one thread at a time, so it works in memory, under a lock, and the socket is
    waited for outside of it. Only one thread sends, which keeps the order. Steps raise OSError.
    """

    def __init__(self, client: socket.socket, context: ssl.SSLContext) -> None:
        self._client = client
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)
        self._lock = threading.Lock()

    def shake_hands(self) -> None:
        """Before anything else."""
        while True:
            try:
                return self._tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            finally:  # an alert too, where the client cannot be understood
                self._client.sendall(self._goes.read())
            self._take()

    def receive(self) -> bytes:
        """What the client said next; nothing at its end, be it TLS's or only the connection's."""
        while True:
            with self._lock, contextlib.suppress(ssl.SSLWantReadError):
                return self._read()
            self._take()

    def send(self, data: bytes) -> None:
        """Says ``data`` to the client."""
        with self._lock:
            self._tls.write(data)
            sealed = self._goes.read()
        self._client.sendall(sealed)

    def end(self) -> None:
        """Says that nothing comes any more; the client may go on."""
        with self._lock:
            with contextlib.suppress(ssl.SSLError):  # the client's own end has not come
                self._tls.unwrap()
            sealed = self._goes.read()
        self._client.sendall(sealed)
        self._client.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Breaks the connection."""
        _shut(self._client, socket.SHUT_RDWR)

    def _take(self) -> None:
        if data := self._client.recv(_CHUNK):
            self._came.write(data)
        else:
            self._came.write_eof()

    def _read(self) -> bytes:
        try:
            return self._tls.read(_CHUNK)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
