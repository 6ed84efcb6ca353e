"""What the demo plays on: a control plane, and simulated Vast.ai, node and commands as processes of their own.

Every process has a keeper (`sandbox.keeper`), so that none outlives this one, however it ends. Logs lie in a folder
that goes with a good end and otherwise stays until the next demo.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from bareboat.cli import sandbox as sandbox_command
from bareboat.cli.demo import terminal
from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors as kube_errors
from bareboat.kube import resources, times
from bareboat.sandbox import binaries, controlplane, folders, keeper, processes, programs
from bareboat.sandbox import settings as sandbox_settings
from bareboat.workload import pod as pods

NODE_NAME = "vast-gpu-node-na-1"
TITLES = {"vast": "Vast.ai", "runpod": "RunPod"}
NODE_SETTINGS = {
    "BAREBOAT_WATCH_IDLE_S": "1",
    "BAREBOAT_WATCH_BUSY_S": "0.3",
    "BAREBOAT_GUARD_AGE_S": "10",
    "VAST_RATE_LIMIT": "off",
    "RUNPOD_RATE_LIMIT": "off",
    "RUNPOD_VISIBILITY_WINDOW_S": "5",
    "VAST_VISIBILITY_WINDOW_S": "5",
    # The addresses of simulated machines belong to nobody here.
    "VAST_LATENCY_CHECK_ENABLED": "false",
}
"""The node lives in real time while the simulated cloud's clock runs many times faster."""
_NOT_OURS = re.compile(r"(BAREBOAT_(?!SANDBOX_)|VAST_|RUNPOD_|VKUBELET_|APISERVER_|KUBE|NODENAME$|POD_IP$).*")
START_TIMEOUT_S = 60.0
ASK_TIMEOUT_S = 10.0
GENTLE_END_S = 8.0
POLL_S = 0.1
WATCH_S = 0.5
LINE_BYTES = 2**20


class Failed(Exception):
    """The demo can't go on. The message says why and where to read more."""


class Stage:
    """An async context; usable between `start` and leaving it. Leaving ends every process and waits for it."""

    def __init__(self, teller: terminal.Teller, speed: float) -> None:
        self._teller = teller
        self._speed = speed
        self._settings = sandbox_settings.Settings()
        self._control = controlplane.ControlPlane(f"demo-{os.getpid()}", settings=self._settings)
        self._claim = folders.claim(self._settings.state_folder / ".demos", f"demo-{os.getpid()}")
        self._components: list[processes.Component] = []
        self._ending: list[processes.Component] = []
        self._clients = contextlib.AsyncExitStack()
        self._has_cluster = True
        self._cloud_name = "vast"
        self.cloud: Mapping[str, Any] = {}
        self.environment: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        return self._claim.folder

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._clients.aclose()
        await asyncio.gather(*(_end(component) for component in self._components))
        await self._control.stop()
        if kind is None or not issubclass(kind, Failed | processes.ComponentDied):
            await asyncio.to_thread(folders.release, self._claim)

    # -- up and running

    async def start(self, *, cluster: bool = True, node: bool = True, cloud: str = "vast") -> None:
        """Without a cluster there is no node either.

        Raises `Failed`, `processes.ComponentDied` or one of `controlplane.START_ERRORS`.
        """
        self._has_cluster = cluster
        if cluster:
            with sandbox_command.progress() as on_progress:
                await binaries.ensure(self._settings, on_progress)
        quiet = ("--profile=none", "--no-churn", "--no-rate-limits")
        self._cloud_name = cloud
        alone = ("--foreign=0",) if cloud == "runpod" else ()
        simulated = self.part(f"simulate {cloud}", f"--speed={self._speed:g}", *quiet, *alone, "--json")
        if cluster:
            with self._teller.waiting("Starting a Kubernetes control plane, about 10 s …"), _Watch() as watch:
                await self._control.start()
            about = "API server, scheduler, controllers"
            self._teller.part(f"Kubernetes {programs.KUBERNETES_VERSION}", about, watch.s)
        await self._start_cloud(simulated)
        self.environment = self._environment()
        if cluster:
            self._client = await self._clients.enter_async_context(
                clients.Client(configs.load(self._control.kubeconfig_path), timeout_s=10)
            )
        if cluster and node:
            await self._start_node()

    async def _start_cloud(self, simulated: processes.Component) -> None:
        name = f"simulated {TITLES[self._cloud_name]}"
        with self._teller.waiting(f"Starting the {name} …"), _Watch() as watch:
            self.cloud = await self.until(functools.partial(_announced, simulated), f"the {name} serves")
            limits = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
            self._http = await self._clients.enter_async_context(aiohttp.ClientSession(timeout=limits))
            world = await self._ask("world")
        pace = "right" if self._speed == 1 else f"{self._speed:g} times as fast"
        offers = f"{len(world['offers'])} offers; " if "offers" in world else ""
        self._teller.part(f"S{name[1:]}", f"{offers}its clock runs {pace}", watch.s)
        for loss in self.cloud["losses"]:
            self._teller.note(loss)

    async def _start_node(self) -> None:
        with self._teller.waiting("Starting the node …"), _Watch() as watch:
            self.part("node", "--address=127.0.0.1", "--kubelet-port=0")
            await self.until(self.node_is_ready, "the node is Ready")
        self._teller.part("bareboat node", f"{NODE_NAME} is Ready", watch.s)

    def check(self) -> None:
        """Raises `processes.ComponentDied` when something has ended by itself."""
        if self._has_cluster:
            self._control.check()
        for component in self._components:
            if component not in self._ending:
                component.check()

    async def watch(self) -> None:
        """Returns never; raises `processes.ComponentDied` soon after something has ended by itself."""
        while True:
            self.check()
            await asyncio.sleep(WATCH_S)

    # -- what there is

    async def pods(self) -> list[pods.Pod]:
        """All of the cluster: there are none but the user's."""
        return (await self._client.list(resources.PODS.path(), item=pods.Pod)).items or []

    async def ledger(self) -> dict[str, Any]:
        return await self._ask("ledger")

    @property
    def logs(self) -> list[Path]:
        return [component.log_path for component in self._components]

    # -- commands

    def to_look_around(self) -> str:
        """The line that makes another terminal see this cluster and, if it has none that fit, the programs for it."""
        found = shutil.which("kubectl")
        fits = found and programs.ask_minor(programs.KUBECTL, Path(found)) in programs.KUBECTL.accepted_minors
        missing = [] if fits else [str(self._control.kubectl_path.parent)]
        if shutil.which("bareboat") is None:
            missing.append(str(Path(sys.executable).parent))
        path = f" PATH={':'.join(missing)}:$PATH" if missing else ""
        return f"export KUBECONFIG={self._control.kubeconfig_path}{path}"

    async def run(self, words: Sequence[str], on_line: Callable[[str], None], *, limit_s: float) -> int | None:
        """Runs `kubectl …` or `bareboat …` to its end and returns the exit code, None when time was up."""
        try:
            async with asyncio.timeout(limit_s), self.running(words) as process:
                assert process.stdout is not None
                async for line in process.stdout:
                    on_line(line.decode(errors="replace").rstrip("\n"))
                return await process.wait()
        except TimeoutError:
            return None

    @contextlib.asynccontextmanager
    async def running(self, words: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
        """The command's process, output and errors in one stream; ended when left."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", keeper.__file__, *self._program(words[0]), *words[1:]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environment,
            limit=LINE_BYTES,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            # Reading to the end lets asyncio close the pipe; the keeper is gone at once.
            await asyncio.shield(process.communicate())

    async def server_of(self, url: str) -> str:
        """What a page calls the program that serves it; empty when nobody answers."""
        try:
            async with self._http.get(url) as response:
                return response.headers.get("Server", "a server without a name") if response.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError):
            return ""

    async def end(self, component: processes.Component) -> int:
        """Ends a part as its user would, and returns its exit code."""
        self._ending.append(component)
        await _end(component)
        return component.exit_code or 0

    async def vast(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A call of the account's API, or of the hand behind the world (`control/…`)."""
        headers = {"Authorization": f"Bearer {self.cloud['api_key']}"}
        url = f"{self.cloud['url']}/{path}"
        try:
            async with self._http.request(method, url, json=body, headers=headers) as response:
                answer: dict[str, Any] = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as trouble:
            raise Failed(f"the simulated Vast.ai does not answer: {trouble!r}") from trouble
        if response.status >= 400:
            raise Failed(f"the simulated Vast.ai refuses {method} {path}: {answer}")
        return answer

    # -- how

    def _program(self, name: str) -> tuple[str, ...]:
        if name == "kubectl":
            return (str(self._control.kubectl_path),)
        if name == "bareboat":
            return (sys.executable, "-m", "bareboat")
        return (found_program(name),)

    def part(self, command: str, *flags: str, **variables: str) -> processes.Component:
        """Starts `bareboat COMMAND`, which the demo does not live without, with more variables."""
        name = f"bareboat {command}"
        component = processes.Component(
            name,
            [sys.executable, "-m", *name.split(), *flags],
            folder=self.folder,
            log_path=self.folder / f"{command.split()[-1]}.log",
            environment={**(self.environment or _clean_environment()), **variables},
        )
        self._components.append(component)
        return component

    def _environment(self) -> dict[str, str]:
        kubeconfig = {"KUBECONFIG": str(self._control.kubeconfig_path)} if self._has_cluster else {}
        coloured = {"FORCE_COLOR": "1"} if self._teller.coloured else {"NO_COLOR": "1"}
        return {
            **_clean_environment(),
            **NODE_SETTINGS,
            **coloured,
            "COLUMNS": str(self._teller.out.width),
            **kubeconfig,
            "KUBECACHEDIR": str(self.folder / "kubectl"),
            f"{self._cloud_name.upper()}_URL": self.cloud["url"],
            f"{self._cloud_name.upper()}_API_KEY": self.cloud["api_key"],
            "BAREBOAT_REGISTRY_MIRRORS": f"*={self.cloud['registry_url']}",
        }

    async def stand_in(self, name: str, gpus: int) -> None:
        """A Node with GPUs on which nothing really runs: whatever is placed there stays as it is."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {
                "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "20", "nvidia.com/gpu": str(gpus)},
                "capacity": {"cpu": "8", "memory": "32Gi", "pods": "20", "nvidia.com/gpu": str(gpus)},
                "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": times.seconds(time.time())}],
            },
        }
        await self._client.create(resources.NODES.path(), manifest)
        await self.until(functools.partial(self._is_open, name), f"{name} takes pods")

    async def _is_open(self, name: str) -> bool:
        node = msgspec.json.decode(await self._client.get(resources.NODES.path(None, name)))
        return not node["spec"].get("taints")

    async def node_is_ready(self, name: str = NODE_NAME) -> bool:
        try:
            node = msgspec.json.decode(await self._client.get(resources.NODES.path(None, name)))
        except kube_errors.NotFound:
            return False
        return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])

    async def until(self, wanted: Callable[[], Any], what: str) -> Any:
        """The first true answer, while everything lives."""
        give_up_s = time.monotonic() + START_TIMEOUT_S
        while True:
            answer = wanted()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return answer
            self.check()
            if time.monotonic() > give_up_s:
                log = self._components[-1].log_path
                waited = f"waited {START_TIMEOUT_S:.0f} s in vain until {what}"
                raise Failed(f"{waited}; {log} ends:\n{processes.log_end(log)}")
            await asyncio.sleep(POLL_S)

    async def _ask(self, what: str) -> dict[str, Any]:
        try:
            async with self._http.get(f"{self.cloud['control_url']}{what}") as response:
                answer: dict[str, Any] = await response.json()
                return answer
        except (aiohttp.ClientError, TimeoutError) as trouble:
            raise Failed(f"the simulated Vast.ai does not answer: {trouble!r}") from trouble


@dataclasses.dataclass
class _Watch:
    """How long a block took."""

    s: float = 0.0

    def __enter__(self) -> Self:
        self.s = -time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.s += time.monotonic()


def found_program(name: str) -> str:
    """Where a program of this computer is. Raises `Failed` when it isn't."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Failed(f"this part of the demo needs {name}, which is not installed")
    return found


def _clean_environment() -> dict[str, str]:
    """Without what the person has set for a Bareboat of their own, above all the key of a real account."""
    return {name: value for name, value in os.environ.items() if not _NOT_OURS.fullmatch(name)}


def _announced(vast: processes.Component) -> Mapping[str, Any] | None:
    """What the simulator says of itself once it serves; the first whole line of its own."""
    for line in vast.log_path.read_text(errors="replace").splitlines(keepends=True):
        if line.startswith('{"url"') and line.endswith("\n"):
            found: Mapping[str, Any] = json.loads(line)
            return found
    return None


async def _end(component: processes.Component) -> None:
    """Gently where the system tells whom to ask, then for certain."""
    pid = component.pid
    if pid is not None and component.exit_code is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GENTLE_END_S):
                await _ended(component)
    await asyncio.to_thread(component.stop)


async def _ended(component: processes.Component) -> None:
    while component.exit_code is None:  # noqa: ASYNC110 - the end of a process is not an event
        await asyncio.sleep(0.02)
