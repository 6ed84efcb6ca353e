"""Small servers for probes to ask, on loopback, each with a tally of what it was asked."""

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator


class Answers(http.server.ThreadingHTTPServer):
    """Answers each GET with what `say` gives for its path: a status, and a Location or nothing."""

    def __init__(self, say: Callable[[str], tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.say = say
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Probes hang up as they like."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        status, location = self.server.say(self.path)
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def answering(say: Callable[[str], tuple[int, str]], tls: ssl.SSLContext | None = None) -> Iterator[Answers]:
    server = Answers(say)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), name="answers")
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@contextlib.contextmanager
def health(status: int | None, asked: list[bytes]) -> Iterator[int]:
    """A gRPC health server of the plainest kind, which answers in small pieces; None: it has no such service."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(conn: socket.socket) -> None:
        with conn, contextlib.suppress(OSError):
            stream = conn.makefile("rb")
            assert stream.read(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            conn.sendall(frame(4, 0, 0, b"\x00\x03\x00\x00\x00\x64"))
            while True:
                head = stream.read(9)
                if len(head) < 9:
                    return
                payload = stream.read(int.from_bytes(head[:3], "big"))
                if head[3] == 4 and not head[4] & 1:
                    conn.sendall(frame(4, 1, 0, b""))
                if head[3] == 0:
                    asked.append(payload)
                    conn.sendall(frame(6, 0, 0, b"12345678"))
                    if status is None:  # trailers alone: status 200, grpc-status 12
                        conn.sendall(frame(1, 5, 1, b"\x88\x00\x0bgrpc-status\x0212"))
                    else:
                        message = bytes([8, status]) if status else b""
                        body = b"\x00" + len(message).to_bytes(4, "big") + message
                        conn.sendall(frame(1, 4, 1, b"\x88"))
                        conn.sendall(frame(0, 0, 1, body[:3]))
                        conn.sendall(frame(0, 8, 1, b"\x02" + body[3:] + b"\0\0"))
                        conn.sendall(frame(1, 5, 1, b"\x00\x0bgrpc-status\x010"))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                serve(listener.accept()[0])

    thread = threading.Thread(target=accept, name="health")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
