"""Two services on one GPU: speech to text on one port, text to speech on the other, each with /healthz."""

import http.server
import json
import os
import signal
import threading


def handler(service: str) -> type[http.server.BaseHTTPRequestHandler]:
    """Answers of one service."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, code: int, value: object) -> None:
            body = json.dumps(value).encode() + b"\n"
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self.answer(200, {"status": "ok", "service": service})
            else:
                self.answer(404, {"error": f"{service} knows /healthz and POST /v1/{service}"})

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == f"/v1/{service}":
                self.answer(200, {"service": service, "bytes": len(sent)})
            else:
                self.answer(404, {"error": f"{service} knows /healthz and POST /v1/{service}"})

        def log_message(self, format: str, *args: object) -> None:
            print(service, format % args, flush=True)  # noqa: T201

    return Handler


def main() -> None:
    """Serves both until TERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for service, variable, usual in (("stt", "STT_PORT", "8001"), ("tts", "TTS_PORT", "8000")):
        port = int(os.environ.get(variable, usual))
        server = http.server.ThreadingHTTPServer(("", port), handler(service))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"{service} listens on {port}", flush=True)  # noqa: T201
    while True:
        signal.pause()


main()
