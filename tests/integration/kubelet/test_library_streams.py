"""What libraries in Python and Java send through the API server: WebSockets of every kind; and a node that takes them
from kubectl itself, untranslated."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from tests.fakes import local_containers
from tests.integration.kubelet import conftest, test_kubectl_streams

from bareboat.kube import resources
from bareboat.kubelet.streams import remotecommand as words
from bareboat.sandbox import controlplane

POD = "library"


@pytest.fixture
async def machine(sandbox: controlplane.ControlPlane) -> AsyncIterator[test_kubectl_streams.Machine]:
    local = local_containers.LocalContainers()
    async with conftest.a_kubelet(sandbox, "kubelet-libraries", local) as kubelet:
        await kubelet.run_pod(POD, conftest.Log())
        yield test_kubectl_streams.Machine(kubelet, local)
    await local.close()


@asynccontextmanager
async def dialled(
    sandbox: controlplane.ControlPlane, verb: str, query: list[tuple[str, str]], *protocols: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    trust = ssl.create_default_context(cafile=sandbox.authority_path)
    trust.load_cert_chain(sandbox.admin.certificate_path, sandbox.admin.key_path)
    url = f"{sandbox.url}/api/v1/namespaces/default/pods/{POD}/{verb}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, force_close=True)) as session,
        session.ws_connect(url, params=query, protocols=protocols, max_msg_size=0) as socket,
    ):
        yield socket


@pytest.mark.parametrize(
    "offered",
    [
        [words.V5, words.V4],
        [words.V4],
        [words.V4_BASE64],
        [words.V1],
        [words.V1_BASE64],
        [],
    ],
)
async def test_exec_in_every_protocol(machine: test_kubectl_streams.Machine, offered: list[str]) -> None:
    script = "read line; echo got $line; echo err >&2; exit 4"
    query = [("command", word) for word in ("sh", "-c", script)]
    query += [(name, "true") for name in ("stdin", "stdout", "stderr")]
    async with dialled(machine.kubelet.sandbox, "exec", query, *offered) as socket:
        protocol = socket.protocol or ""
        assert protocol == (offered or [""])[0]
        packed = words.pack(protocol, 0, b"hello\n")
        await (socket.send_str(packed) if isinstance(packed, str) else socket.send_bytes(packed))
        got: dict[int, bytes] = {}
        async with asyncio.timeout(20):
            async for message in socket:
                sent = words.unpack(protocol, message.data)
                if sent is not None:
                    got[sent.channel] = got.get(sent.channel, b"") + sent.data
    assert (got[1], got[2]) == (b"got hello\n", b"err\n")
    if protocol in (words.V4, words.V5, words.V4_BASE64):
        assert json.loads(got[3])["details"]["causes"] == [{"reason": "ExitCode", "message": "4"}]
    else:
        assert b"exit code: 4" in got[3]


async def test_pythons_port_forward(machine: test_kubectl_streams.Machine) -> None:
    """The client offers v5 and v4 and means the old form of the latter."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        query = [("ports", str(port))]
        async with dialled(machine.kubelet.sandbox, "portforward", query, words.V5, words.V4) as socket:
            assert socket.protocol == words.V4
            greeting = port.to_bytes(2, "little")
            async with asyncio.timeout(20):
                assert [(await socket.receive()).data for _ in range(2)] == [b"\0" + greeting, b"\1" + greeting]
                await socket.send_bytes(b"\0hello")
                assert (await socket.receive()).data == b"\0hello"
                assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


async def test_kubectl_on_a_node_that_declares_websockets(machine: test_kubectl_streams.Machine) -> None:
    """Then v5 and the tunnel come to us as they are. Not declared by us; a cluster's admin may do it."""
    declared = {"status": {"declaredFeatures": ["ExtendWebSocketsToKubelet"]}}
    node = resources.NODES.path(name=machine.kubelet.node, subresource="status")
    patched = await machine.kubelet.api.patch(node, declared)
    assert b"ExtendWebSocketsToKubelet" in json.dumps(patched, default=str).encode()
    content = os.urandom(5_000_000)
    async with asyncio.timeout(60):
        process = await machine.start("exec", "-i", POD, "--", "cat")
        await machine.local.has_started.wait()
        assert machine.kubelet.served.streaming_connections == 0
        assert (await process.communicate(b"as it is"))[0] == b"as it is"
        done = await machine.run("exec", "-i", POD, "--", "sh", "-c", "wc -c; exit 3", stdin=content)
        assert (done.code, done.out.strip()) == (3, b"5000000")

        async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            forwarded = test_kubectl_streams.forwarding(machine, port, websockets="true", pod=POD)
            async with forwarded as (_process, (local,)):
                for _ in range(3):
                    reader, writer = await asyncio.open_connection("127.0.0.1", local)
                    assert await reader.read() == b"hello"
                    writer.close()
