"""What the rented machine runs: a server that echoes, streams and speaks WebSocket. Standard library only."""

import asyncio
import base64
import hashlib
import os
from typing import TypeAlias

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
WHO = f"{os.environ.get('GREETING', '')} {os.environ.get('CONTAINER_ID', '')}"
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


async def body(reader: Reader, headers: dict[str, str]) -> int:
    count = 0
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            count += len(await reader.readexactly(size + 2)) - 2
        await reader.readline()
    while count < int(headers.get("content-length", 0)):
        count += len(await reader.read(65536))
    return count


async def echo_frames(reader: Reader, writer: Writer, key: str) -> None:
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    head = "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    writer.write(f"{head}{accept}\r\n\r\n".encode())
    kind = 0
    while kind != 8:
        first, size = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        text = await reader.readexactly(size & 127)
        writer.write(bytes([first, len(text)]) + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text)))
        await writer.drain()
        kind = first & 15


async def stream(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(20):
        writer.write(b"4\r\nt%02d\n\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.1)
    writer.write(b"0\r\n\r\n")


async def one(reader: Reader, writer: Writer) -> bool:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    path = lines[0].split(" ")[1]
    headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines[1:])}
    count = await body(reader, headers)
    if headers.get("upgrade") == "websocket":
        await echo_frames(reader, writer, headers["sec-websocket-key"])
        return False
    if path == "/stream":
        await stream(writer)
        return True
    said = f"{WHO} {path} {count}\n".encode()
    status = b"404 N" if path == "/missing" else b"200 O"
    writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(said), said))
    await writer.drain()
    return True


async def serve(reader: Reader, writer: Writer) -> None:
    try:
        while await one(reader, writer):
            pass
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    async with await asyncio.start_server(serve, "0.0.0.0", 8000) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
