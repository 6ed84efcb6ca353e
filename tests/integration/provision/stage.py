"""`bareboat provision` as a process, and how the tests speak to it. Everything here blocks."""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

Json = dict[str, Any]
BAREBOAT = (sys.executable, "-m", "bareboat", "provision")
START_S = 30.0
OURS = ("HOST", "PORT", "NAMESPACE", "KUBECONFIG")


def environment(**settings: str) -> dict[str, str]:
    """This machine's, without what would set the service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PROVISION_", "BAREBOAT_"))}
    return {name: value for name, value in kept.items() if name not in OURS} | settings


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as listening:
        return int(listening.getsockname()[1])


def pool(workers: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(workers)


class Service:
    """Started on loopback; `settings` are environment variables, `command` another way to start it than ours."""

    def __init__(self, log: Path, *, command: Sequence[str] = BAREBOAT, **settings: str) -> None:
        self._command = command
        self._settings = {"HOST": "127.0.0.1", "PORT": str(free_port()), **settings}
        self._log = log
        self.url = f"http://{self._settings['HOST']}:{self._settings['PORT']}"

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, env=environment(**self._settings), stdout=log, stderr=subprocess.STDOUT
            )
        give_up_s = time.monotonic() + START_S
        while True:
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                self.__exit__()
                raise AssertionError(f"the service did not start: {self.log}")
            try:
                if self.ask("GET", "/healthz", raw=True)[0] == 200:
                    return self
            except OSError:
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the service did not end: {self.log}") from None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code."""
        return self._process.wait(30)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        raw: bool = False,
        kind: str = "application/json",
        encoding: str = "",
    ) -> tuple[int, Any]:
        """Status and decoded answer; `body` as bytes is sent as it is."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind}
        if encoding:
            headers["Content-Encoding"] = encoding
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                status, text = refusal.code, refusal.read()
        return status, text.decode() if raw else json.loads(text)

    def provision(self, body: Any, query: str = "", token: str = "") -> Json:
        status, answer = self.ask("POST", f"/provision{query}", body, token=token)
        assert status == 200, answer
        told: Json = answer
        return told

    def metrics(self, name: str) -> str:
        told = str(self.ask("GET", "/metrics", raw=True)[1])
        return "\n".join(line for line in told.splitlines() if line.startswith(name))
