#!/usr/bin/env python3
"""Stands in for vLLM's server: /health, /v1/models and completions with made-up text."""

import http.server
import json
import os
import signal
import sys
import threading
import time


def option(name: str, usual: str) -> str:
    """The value after `name` on the command line."""
    for index, word in enumerate(sys.argv):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and index + 1 < len(sys.argv):
            return sys.argv[index + 1]
    return usual


class Handler(http.server.BaseHTTPRequestHandler):
    """The part of the OpenAI API that clients try first."""

    protocol_version = "HTTP/1.1"
    model = "simulated"

    def answer(self, code: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200, {})
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": "vllm"}]})
        else:
            self.answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        text = "This machine is simulated, and so is this answer."
        head = {"id": "cmpl-1", "created": int(time.time()), "model": self.model}
        if self.path == "/v1/chat/completions":
            message = {"role": "assistant", "content": text}
            choice: dict[str, object] = {"index": 0, "message": message, "finish_reason": "stop"}
            self.answer(200, {**head, "object": "chat.completion", "choices": [choice]})
        elif self.path == "/v1/completions":
            choice = {"index": 0, "text": text, "finish_reason": "stop"}
            self.answer(200, {**head, "object": "text_completion", "choices": [choice]})
        else:
            self.answer(404, {"detail": "Not Found"})


def main() -> None:
    """`vllm serve MODEL --port N`, until TERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    words = [word for word in sys.argv[2:3] if not word.startswith("-")]
    Handler.model = option("--served-model-name", option("--model", words[0] if words else "simulated"))
    port = int(option("--port", "8000"))
    server = http.server.ThreadingHTTPServer((option("--host", "0.0.0.0"), port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"INFO: Uvicorn running on http://0.0.0.0:{port} (simulated)", flush=True)  # noqa: T201
    while True:
        signal.pause()


main()
