"""Connections of providers: used again, broken, through proxies, over TLS, left in the middle."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mx.errors import UnavailableError
from mx.providers.connections import Connections, Exchange
from mx.providers.retry import TransientError

Talk = Callable[[socket.socket, bytes], bool]


class Listener:
    """A server by sockets: ``talk`` gets each request's head and says whether the connection stays."""

    def __init__(self, talk: Talk, *, tls: ssl.SSLContext | None = None) -> None:
        self.talk = talk
        self.tls = tls
        self.heads: list[bytes] = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> Listener:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with self.tls.wrap_socket(connection, server_side=True) if self.tls else connection as talking:
                while head := read_head(talking):
                    self.heads.append(head)
                    if not self.talk(talking, head):
                        return
        except OSError:
            return


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = connection.recv(1)
        if not more:
            return b""
        head += more
    return head


def whole(body: bytes, *headers: str, status: str = "200 OK") -> Talk:
    lines = "".join(f"{header}\r\n" for header in headers)
    answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body

    def talk(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(answer)
        return True

    return talk


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    connections = Connections(threads=4, connect_s=10, silence_s=10)
    yield connections
    await connections.close()


async def read(exchange: Exchange) -> bytes:
    content = b""
    while block := await exchange.block(1 << 16):
        content += block
    await exchange.close()
    return content


async def get(connections: Connections, url: str, **headers: str) -> bytes:
    exchange = await connections.send(httpx2.URL(url), headers, what="a file")
    assert exchange.answer.status_code == 200
    return await read(exchange)


async def test_a_connection_is_used_again(connections: Connections) -> None:
    with Listener(whole(b"body" * 50_000)) as server:
        for _ in range(3):
            assert await get(connections, f"http://127.0.0.1:{server.port}/x") == b"body" * 50_000
        assert server.connections == 1


async def test_one_that_was_left_in_the_middle_is_not(connections: Connections) -> None:
    with Listener(whole(b"body" * 50_000)) as server:
        url = httpx2.URL(f"http://127.0.0.1:{server.port}/x")
        exchange = await connections.send(url, {}, what="a file")
        assert await exchange.block(10) == b"bodybodybo"
        await exchange.close()
        assert await get(connections, str(url)) == b"body" * 50_000
        assert server.connections == 2


async def test_a_head_has_no_body(connections: Connections) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nETag: x\r\n\r\n"

    def talk(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(answer)
        return True

    with Listener(talk) as server:
        url = httpx2.URL(f"http://127.0.0.1:{server.port}/x")
        for _ in range(2):
            exchange = await connections.send(url, {}, what="a file", method="HEAD")
            assert exchange.answer.headers["content-length"] == "5000"
            assert await read(exchange) == b""
        assert server.connections == 1


async def test_one_that_the_other_side_closed_meanwhile_is_no_failure(connections: Connections) -> None:
    served = threading.Event()

    def once(connection: socket.socket, head: bytes) -> bool:
        whole(b"body")(connection, head)
        served.set()
        return False

    with Listener(once) as server:
        for _ in range(3):
            assert await get(connections, f"http://127.0.0.1:{server.port}/x") == b"body"
            await asyncio.to_thread(served.wait, 10)
        assert server.connections == 3


async def test_one_that_closes_without_an_answer_is_asked_once_more_and_then_broke(
    connections: Connections,
) -> None:
    def talk(connection: socket.socket, head: bytes) -> bool:
        if b"/good" in head:
            return whole(b"body")(connection, head)
        return False

    with Listener(talk) as server:
        base = f"http://127.0.0.1:{server.port}"
        assert await get(connections, f"{base}/good") == b"body"
        with pytest.raises(TransientError, match="broke"):
            await get(connections, f"{base}/bad")
        assert [head.split()[1] for head in server.heads] == [b"/good", b"/bad", b"/bad"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n3\r\nmor\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbodymor",
        b"HTTP/1.0 200 OK\r\n\r\nbodymor",
    ],
)
async def test_bodies_of_unknown_length(connections: Connections, answer: bytes) -> None:
    def talk(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(answer)
        return False

    with Listener(talk) as server:
        assert await get(connections, f"http://127.0.0.1:{server.port}/x") == b"bodymor"


@pytest.mark.parametrize(
    ("answer", "came", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbody", b"body", "broke: it ended 6 bytes early"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbody", b"body", "broke"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"", "broke"),
        (b"220 smtp ready\r\n", b"", "answered wrongly"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"", "answered wrongly"),
        (b"", b"", "broke"),
    ],
)
async def test_what_is_no_whole_answer(
    connections: Connections, answer: bytes, came: bytes, said: str
) -> None:
    def talk(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(answer)
        return False

    got = bytearray()

    async def read_all(url: httpx2.URL) -> None:
        exchange = await connections.send(url, {}, what="a file")
        while block := await exchange.block(3):
            got.extend(block)

    with Listener(talk) as server:
        with pytest.raises(TransientError, match=said) as caught:
            await read_all(httpx2.URL(f"http://127.0.0.1:{server.port}/x"))
        assert f"127.0.0.1:{server.port}" in str(caught.value)
    assert got == came


async def test_a_call_that_is_cancelled_lets_its_thread_go(tmp_path: Path) -> None:
    connections = Connections(threads=1, connect_s=10, silence_s=600)
    gate = threading.Event()

    def talk(connection: socket.socket, head: bytes) -> bool:
        if b"/good" in head:
            return whole(b"body")(connection, head)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        gate.wait()
        return False

    with Listener(talk) as server:
        base = f"http://127.0.0.1:{server.port}"
        exchange = await connections.send(httpx2.URL(f"{base}/stuck"), {}, what="a file")
        reading = asyncio.create_task(exchange.block(10))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        async with asyncio.timeout(30):  # the only thread is free again
            assert await get(connections, f"{base}/good") == b"body"
        gate.set()
    await connections.close()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".invalid"])
async def test_a_name_that_no_host_can_have(connections: Connections, host: str) -> None:
    with pytest.raises(TransientError, match="can't be reached"):
        await get(connections, f"http://{host}/x")


# proxies


async def test_a_plain_proxy_gets_the_whole_address_and_its_password(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Listener(whole(b"from afar")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        assert (
            await get(connections, "http://store.invalid:9000/a%20b?c=d", Authorization="x") == b"from afar"
        )
        [head] = proxy.heads
        assert head.startswith(b"GET http://store.invalid:9000/a%20b?c=d HTTP/1.1\r\n")
        assert b"Host: store.invalid:9000\r\n" in head
        assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in head
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await get(connections, f"http://127.0.0.1:{proxy.port}/x") == b"from afar"
        assert proxy.heads[1].startswith(b"GET /x ")
        assert b"Proxy-Authorization" not in proxy.heads[1]


async def test_a_proxy_of_another_kind_is_named_without_its_password(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@proxy:1080")
    with pytest.raises(UnavailableError, match="proxy:1080 is of the kind socks5") as caught:
        await get(connections, "http://store.invalid/x")
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("store.invalid")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls(certificate: Path) -> Iterator[Listener]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Listener(whole(b"over TLS"), tls=context) as server:
        yield server


async def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(
    connections: Connections, tls: Listener
) -> None:
    with pytest.raises(UnavailableError, match="is not trusted") as caught:
        await get(connections, f"https://127.0.0.1:{tls.port}/x")
    assert "SSL_CERT_FILE" in caught.value.remedy


async def test_a_file_of_authorities_makes_it_trusted(
    connections: Connections, tls: Listener, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for _ in range(2):
        assert await get(connections, f"https://127.0.0.1:{tls.port}/x") == b"over TLS"
    assert tls.connections == 1


async def test_tls_goes_through_a_proxy_end_to_end(
    connections: Connections, tls: Listener, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tunnel(connection: socket.socket, head: bytes) -> bool:
        with socket.create_connection(("127.0.0.1", tls.port)) as target:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(target, connection), daemon=True)
            back.start()
            _pass_on(connection, target)
            back.join(10)
        return False

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Listener(tunnel) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass@127.0.0.1:{proxy.port}")
        assert await get(connections, f"https://store.invalid:{tls.port}/x", Authorization="x") == b"over TLS"
        [head] = proxy.heads
        assert head.startswith(f"CONNECT store.invalid:{tls.port} HTTP/1.".encode())
        assert b"Proxy-Authorization: Basic bWU6cGFzcw==" in head
        assert b"\r\nAuthorization" not in head
        assert b"Proxy-Authorization" not in tls.heads[0]


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
