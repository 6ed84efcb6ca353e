"""The other side of the ssh benchmark: a cheap server in a process of its own, which takes packets up to the size
given. Prints its port; ends with its input."""

import asyncio
import sys

import asyncssh


async def handle(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    """`hold` says one line and then nothing; `send BYTES AT_ONCE` and `take` move bytes."""
    words = (process.command or "").split()
    if words[:1] == ["send"]:
        chunk = bytes(int(words[2]))
        for _ in range(int(words[1]) // len(chunk)):
            process.stdout.write(chunk)
            await process.stdout.drain()
    else:
        if words[:1] == ["hold"]:
            process.stdout.write(b"up\n")
        while await process.stdin.read(1 << 17):
            pass
    process.exit(0)


class Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True


async def main(packet_bytes: int) -> None:
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        backlog=1024,
        server_factory=Server,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=handle,
        encoding=None,
        window=1 << 22,
        max_pktsize=packet_bytes,
    )
    print(acceptor.get_port(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    acceptor.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
