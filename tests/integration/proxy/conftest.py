"""The proxy's own surroundings: a simulated Vast whose machines really serve, a real nginx, a real Redis."""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration import running_vast

DEADLINE_S = 60.0
IMAGE = "python:3.12"
PORT = 8000
QUERY = 'num_gpus=1 gpu_name in ["RTX 4090","RTX 3090","RTX A6000"] direct_port_count>=8'
# Vast takes 4096 characters of arguments.
SERVER = (Path(__file__).parent / "workload.py").read_text().replace("    ", " ")


async def until(test: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    try:
        async with asyncio.timeout(deadline_s):
            while not await test():  # noqa: ASYNC110 - other processes set no events
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s:g} s: {what}") from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """The real program; without it nothing here means anything."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed: run tools/setup, or install the packages nginx-light and redis-server"
    return found


class Cloud(running_vast.Owner):
    """The account that the proxies rent on."""

    async def template(self, name: str = "my_web", **changes: Any) -> str:
        """Makes one; returns its hash."""
        body = {"name": name, "image": IMAGE, "env": f"-e GREETING=hello -p {PORT}:{PORT}", **changes}
        body.setdefault("runtype", "args")
        if body["runtype"] == "args" and "onstart" not in body:
            body |= {"onstart": "python3", "args_str": f"-c {shell_quoted(SERVER)}"}
        made = await self.call("POST", "/api/v0/template/", body)
        return str(made["template"]["hash_id"])

    async def edit(self, hash_id: str, **changes: Any) -> str:
        made = await self.call("PUT", "/api/v0/template/", {"hash_id": hash_id, **changes})
        return str(made["template"]["hash_id"])

    def live(self) -> list[dict[str, Any]]:
        """Records of all instances there are."""
        return [self.sim.instances.record(each) for each in self.sim.estate.live()]

    def ever(self) -> int:
        return len(self.sim.ledger.ever_rented())

    async def rent(self, label: str, **body: Any) -> int:
        """An instance made by other hands."""
        query = {"num_gpus": {"eq": 1}, "direct_port_count": {"gte": 8}, "verified": {"eq": True}}
        [offer, *_] = (await self.call("POST", "/api/v0/bundles/", query))["offers"]
        made = await self.call("PUT", f"/api/v0/asks/{offer['id']}/", {"label": label, "image": IMAGE, **body})
        assert made["success"], made
        return int(made["new_contract"])


def shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


class Proxy:
    """`bareboat proxy` as its container runs it: a process with an environment."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.environment = dict(environment)
        self.log_path = folder / "log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['NGINX_LISTEN_PORT']}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def nginx_pid(self) -> int:
        return int((self.folder / "state" / "nginx.pid").read_text())

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    @property
    def config(self) -> str:
        """What nginx was told to serve."""
        return Path(self.environment["NGINX_CONFIG_PATH"]).read_text()

    async def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bareboat", "proxy", env=self.environment, stdout=log, stderr=log
            )

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Another command in the same environment: exit code and all it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bareboat", *arguments, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(DEADLINE_S):
            said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, deadline_s: float = DEADLINE_S) -> int:
        assert self._process is not None
        async with asyncio.timeout(deadline_s):
            return await self._process.wait()

    async def probe(self, http: aiohttp.ClientSession, path: str = "/readyz") -> int:
        port = self.environment["BAREBOAT_PROXY_HEALTH_PORT"]
        try:
            async with http.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    async def until_ready(self, http: aiohttp.ClientSession) -> None:
        async def ready() -> bool:
            assert self._process is not None
            assert self._process.returncode is None, f"the proxy ended early:\n{self.log}"
            return await self.probe(http) == 200

        try:
            await until(ready, "the proxy to be ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    async def until_said(self, words: str, deadline_s: float = DEADLINE_S) -> None:
        async def said() -> bool:
            return words in self.log

        try:
            await until(said, f"the proxy to say {words!r}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    async def kill(self) -> None:
        """As a node that loses power: no drain, and nothing of its container is left."""
        assert self._process is not None
        nginx = self.folder / "state" / "nginx.pid"
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if nginx.exists():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(nginx.read_text()), 15)

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await self.ended(15)
            except TimeoutError:
                await self.kill()


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    async with running_vast.opened(Cloud) as owner:
        yield owner


Launcher = Callable[..., Proxy]


@pytest.fixture
async def launch(cloud: Cloud, tmp_path: Path) -> AsyncIterator[Launcher]:
    async with launcher(cloud, tmp_path) as make:
        yield make


@contextlib.asynccontextmanager
async def launcher(cloud: Cloud, folder: Path) -> AsyncIterator[Launcher]:
    """A proxy with an environment that works, changed by keywords; None takes a variable out."""
    folder.chmod(0o755)  # noqa: ASYNC240 - nginx's workers are nobody
    made: list[Proxy] = []

    def make(name: str = "vast-pod-0", **changes: str | None) -> Proxy:
        own = folder / f"{name}-{len(made)}"
        environment = {
            "PATH": f"{Path(program('nginx')).parent}:{os.environ['PATH']}",
            "POD_NAME": name,
            "VAST_API_KEY": cloud.sim.api_key,
            "VAST_TEMPLATE_NAME": "my_web",
            "VAST_TEMPLATE_IMAGE": IMAGE,
            "DOCKER_LOGIN": "-u robot -p opensesame registry.example.com",
            "VAST_SEARCH_QUERY": QUERY,
            "NGINX_CONFIG_PATH": str(own / "http.d" / "default.conf"),
            "NGINX_LISTEN_PORT": str(free_port()),
            "VAST_URL": cloud.sim.url,
            "VAST_RATE_LIMIT": "off",
            "VAST_VISIBILITY_WINDOW_S": "0.5",
            "BAREBOAT_PROXY_LISTEN_ADDRESS": "127.0.0.1",
            "BAREBOAT_PROXY_HEALTH_PORT": str(free_port()),
            "BAREBOAT_PROXY_STATE_DIR": str(own / "state"),
            "BAREBOAT_PROXY_POLL_S": "0.5",
            "BAREBOAT_PROXY_BUSY_POLL_S": "0.1",
            "BAREBOAT_PROXY_UNREACHABLE_S": "1",
        }
        environment.update({key: value for key, value in changes.items() if value is not None})
        for key in [key for key, value in changes.items() if value is None]:
            environment.pop(key, None)
        proxy = Proxy(own, environment)
        made.append(proxy)
        return proxy

    try:
        yield make
    finally:
        for proxy in made:
            await proxy.close()


@pytest.fixture
async def redis_url(tmp_path: Path) -> AsyncIterator[str]:
    """A real Redis, empty, gone afterwards."""
    async with served_redis(tmp_path / "redis", free_port()) as url:
        yield url


@contextlib.asynccontextmanager
async def served_redis(folder: Path, port: int) -> AsyncIterator[str]:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    process = await asyncio.create_subprocess_exec(
        program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def answers() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(answers, "Redis to listen")
        yield f"redis://127.0.0.1:{port}/10"
    finally:
        process.terminate()
        await process.wait()
