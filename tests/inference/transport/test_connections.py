"""Proxies and certificates as the environment names them, beside the stock `openai` client."""

import asyncio
import ssl
import zlib
from contextlib import suppress
from dataclasses import replace

import httpx2
import openai
import pytest
import trustme
from yarl import URL

from duologue.inference import EndpointRefused
from duologue.inference.transport.attempts import Attempts
from duologue.inference.transport.channel import Channel
from duologue.inference.transport.connections import ConnectionPool
from duologue.inference.transport.limiter import Limiter
from duologue.tests.inference.fault_server import GOOD, FaultServer, http

PATH, BODY = "/chat/completions", b"{}"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def by_lane(url, times=2):
    lane, gate = Channel(url, lambda: "k"), Limiter(4)
    try:
        answers = [await lane.send(PATH, BODY, Attempts(gate, "a", 5.0, 10.0)) for _ in range(times)]
    except httpx2.RequestError:
        return "APIConnectionError"
    finally:
        await lane.aclose()
    assert answers == [answers[0]] * times
    return answers[0].body


async def by_stock(url):
    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0, timeout=5.0) as client:
        try:
            return (await client.post(PATH, content=BODY, cast_to=httpx2.Response)).content
        except openai.APIError as error:
            return type(error).__name__


WAYS = [by_stock, by_lane]


@pytest.mark.parametrize("way", WAYS)
def test_a_proxy_of_the_environment_is_used_with_its_password(monkeypatch, way):
    async def main():
        async with FaultServer([http()]).serving() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://user:word@127.0.0.1:{proxy.port}")
            return await way("http://model.invalid/v1"), proxy.asked

    answer, asked = asyncio.run(main())
    assert answer == GOOD
    assert {entry.line for entry in asked} == {"POST http://model.invalid/v1/chat/completions HTTP/1.1"}
    assert {entry.headers["proxy-authorization"] for entry in asked} == {"Basic dXNlcjp3b3Jk"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("exempt", ["*", "127.0.0.1", "other.invalid,127.0.0.1"])
def test_an_exempt_address_goes_past_the_proxy(monkeypatch, way, exempt):
    async def main():
        async with FaultServer([http()]).serving() as proxy, FaultServer([http()]).serving() as server:
            monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", exempt)
            return await way(server.url), len(proxy.asked)

    assert asyncio.run(main()) == (GOOD, 0)


@pytest.mark.parametrize("way", WAYS)
def test_a_proxy_that_is_not_there_is_a_connection_error(monkeypatch, way):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert asyncio.run(way("http://model.invalid/v1")) == "APIConnectionError"


def test_a_proxy_that_needs_another_package_refuses_the_endpoint(client, endpoint, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    there = replace(endpoint, base_url="http://model.invalid/v1", api_key_env=None)
    with pytest.raises(EndpointRefused, match="by the environment's proxy: .*socksio"):
        client.run(client.chat(there, [{"role": "user", "content": "Hello"}]))


def test_what_a_proxy_of_another_kind_needs_goes_the_stock_way(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert not ConnectionPool("http://model.invalid/v1").can_carry
    assert ConnectionPool("http://model.invalid/v1", trust_env=False).can_carry


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def secure(authority, host="127.0.0.1"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


async def https(way, context):
    async with FaultServer([http()]).serving(context) as server:
        return await way(server.url.replace("http:", "https:"))


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate_is_trusted_if_the_environment_says_so(authority, monkeypatch, tmp_path, way):
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    assert asyncio.run(https(way, secure(authority))) == GOOD


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a handshake that fails leaves the test server's side open
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["unknown authority", "other host"])
def test_a_certificate_that_is_not_good_is_a_connection_error(authority, monkeypatch, tmp_path, way, fault):
    if fault == "other host":
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    host = "other.invalid" if fault == "other host" else "127.0.0.1"
    assert asyncio.run(https(way, secure(authority, host))) == "APIConnectionError"


@pytest.mark.parametrize("way", WAYS)
def test_tls_goes_through_the_tunnel_of_a_proxy(authority, monkeypatch, tmp_path, way):
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    tunnels = []

    async def main():
        async with FaultServer([http()]).serving(secure(authority, "model.invalid")) as server:

            async def tunnel(reader, writer):
                head = await reader.readuntil(b"\r\n\r\n")
                tunnels.append(head.split(b"\r\n")[0])
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)

                async def pump(source, sink):
                    with suppress(OSError):
                        while data := await source.read(65536):
                            sink.write(data)
                            await sink.drain()
                    sink.close()
                    with suppress(OSError):
                        await sink.wait_closed()

                await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

            async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy:
                monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
                return await way("https://model.invalid/v1")

    assert asyncio.run(main()) == GOOD
    assert set(tunnels) == {b"CONNECT model.invalid:443 HTTP/1.1"}


def test_an_answer_keeps_its_headers():
    async def main():
        async with FaultServer([http(200, GOOD, "X-One: 1")]).serving() as server:
            wire = ConnectionPool(server.url)
            route = wire.route(URL(server.url + PATH), [])
            with route:
                answer = await route.post(BODY, 5.0)
                route.retire()  # while somebody is inside, it stays open
                assert await route.post(BODY, 5.0) == answer
            await wire.aclose()
            return answer

    answer = asyncio.run(main())
    assert answer.header(b"x-one") == "1"
    assert answer.header(b"x-two") is None


@pytest.mark.parametrize("way", ["aiohttp", "the stock client"])
def test_a_body_that_grows_without_bound_when_it_is_decompressed_is_not_read(monkeypatch, way):
    """300 MB of zeros in 0.3 MB."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(compressor.compress(bytes(2**20)) for _ in range(300)) + compressor.flush()
    body = http(200, bomb, "Content-Encoding: gzip")

    async def main():
        async with FaultServer([body]).serving() as server:
            steps = [http(307, b"", "Location: /v1/elsewhere"), body] if way == "the stock client" else [body]
            server.steps = steps
            lane = Channel(server.url, lambda: "k")
            try:
                await lane.send(PATH, BODY, Attempts(Limiter(4), "a", 60.0, 60.0))
            finally:
                await lane.aclose()

    with pytest.raises(httpx2.RemoteProtocolError, match="bytes or more; at most 268,435,456 are read"):
        asyncio.run(main())
