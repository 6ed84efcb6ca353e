#!/usr/bin/env python3
"""Stands in for nginx where it is not installed: serves the folders that its configuration names, and logs as it does.

Understands `listen`, `root` and `location … { return CODE "text"; }` of the files in conf.d; nothing else.
"""

import functools
import http.server
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

CONFIGURATION = Path("/etc/nginx/conf.d")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one folder, and fixed answers."""

    server_version = "nginx/" + os.environ.get("NGINX_VERSION", "1.27.3")
    sys_version = ""
    protocol_version = "HTTP/1.1"
    answers: dict[str, tuple[int, str]] = {}  # noqa: RUF012 - set once before serving

    def do_GET(self) -> None:
        """A fixed answer if the configuration has one for the path, else the file."""
        answer = self.answers.get(self.path.partition("?")[0])
        if answer is None:
            super().do_GET()
            return
        code, text = answer
        self.send_response(code)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line of the combined log format."""
        agent = self.headers.get("User-Agent", "-") if self.headers else "-"
        at = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        number = getattr(code, "value", code)
        print(f'{self.client_address[0]} - - [{at}] "{self.requestline}" {number} {size} "-" "{agent}"', flush=True)  # noqa: T201

    def log_message(self, format: str, *args: object) -> None:
        """Errors stay out of the log, as at nginx's notice level."""


def main() -> None:
    """Serves each port that is listened on, until TERM or QUIT."""
    text = "\n".join(path.read_text() for path in sorted(CONFIGURATION.glob("*.conf")))
    if "-t" in sys.argv or "-v" in sys.argv:
        print(f"nginx version: {Handler.server_version}", file=sys.stderr)  # noqa: T201
        return
    found = re.search(r"^\s*root\s+([^;]+);", text, re.MULTILINE)
    root = found[1].strip() if found else "/usr/share/nginx/html"
    for path, code, body in re.findall(r"location\s+=?\s*(/\S*)\s*\{[^}]*?return\s+(\d+)\s*([^;]*);", text):
        Handler.answers[path] = (int(code), body.strip().strip("\"'").replace("\\n", "\n"))
    ports = {int(port) for port in re.findall(r"^\s*listen\s+(?:\S*:)?(\d+)", text, re.MULTILINE)} or {80}
    handler = functools.partial(Handler, directory=root)
    for port in sorted(ports):
        server = http.server.ThreadingHTTPServer(("", port), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGQUIT, lambda *_: os._exit(0))
    while True:
        signal.pause()


main()
