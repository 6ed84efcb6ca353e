"""A running control plane: started stage by stage until it is ready, stopped without a trace.

    async with controlplane.ControlPlane() as sandbox:
        print(sandbox.kubeconfig_path)

Nothing here is bound to an event loop: `start` and `stop` may run in different ones, or in none via `asyncio.run`.
The components die with this process, however it ends (see `keeper`); the folder it leaves then is cleared by the next
start of any sandbox. These are real processes, so all waits are in the machine's own time.
"""

import asyncio
import os
import secrets
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from bareboat.sandbox import binaries, components, folders, kubeconfigs, pki, processes, programs, reports
from bareboat.sandbox import settings as sandbox_settings

POLL_S = 0.05
WATCH_S = 0.5
REQUEST_TIMEOUT_S = 5.0
START_TRIES = 3
PORT_TAKEN = "address already in use"


class NotReady(Exception):
    """The control plane did not become ready in time. The message says what was missing and shows a log's end."""


START_ERRORS = (
    binaries.Unavailable,
    programs.UnknownPlatform,
    folders.NameTaken,
    processes.ComponentDied,
    NotReady,
)
"""What `ControlPlane.start` raises for reasons that a person can do something about; each message says what."""


class ControlPlane:
    """etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback, with a PKI of their own.

    Attributes are valid between `start` and `stop`. `stages` holds the seconds that each stage of the start took.
    """

    url: str
    credentials: components.Credentials
    programs: binaries.Binaries

    def __init__(
        self,
        name: str | None = None,
        *,
        settings: sandbox_settings.Settings | None = None,
        on_progress: binaries.Listener | None = None,
        supervised: bool = False,
    ) -> None:
        """`name` is unique among the user's live sandboxes; by default it is made up.

        `supervised` says that this process lives for the sandbox alone, so that `bareboat sandbox down` may end it.
        """
        self.name = folders.check_name(name or f"run-{os.getpid()}-{secrets.token_hex(3)}")
        self.settings = settings or sandbox_settings.Settings()
        self.stages: dict[str, float] = {}
        self._on_progress = on_progress
        self._supervised = supervised
        self._claim: folders.Claim | None = None
        self._components: list[processes.Component] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def folder(self) -> Path:
        """Certificates, kubeconfigs, etcd's data and one log per component; removed by `stop`."""
        return self.settings.state_folder / self.name

    @property
    def kubeconfig_path(self) -> Path:
        """Of the administrator; everything inline."""
        return self.folder / "kubeconfig"

    @property
    def kubectl_path(self) -> Path:
        return self.programs.kubectl

    @property
    def authority_path(self) -> Path:
        """Certificate of the authority that signed the API server's certificate and every client's."""
        return self.credentials.authority.certificate_path

    @property
    def admin(self) -> pki.KeyPair:
        """Client certificate of a member of `system:masters`."""
        return self.credentials.admin

    async def start(self) -> None:
        """Returns when the control plane serves, schedules and has made the default ServiceAccount.

        Raises one of `START_ERRORS`, and has then cleaned up. The first start on a machine may have to fetch or
        build programs, which takes minutes.
        """
        with _Stage(self.stages, "binaries"):
            self.programs = await binaries.ensure(self.settings, self._on_progress)
        # Not in a thread: a cancellation could come between the claim and the note of it.
        self._claim = folders.claim(self.settings.state_folder, self.name, supervised=self._supervised)
        try:
            await self._start_with_free_ports()
            facts = reports.Facts(self.url, programs.KUBERNETES_VERSION, self.component_pids())
            reports.write_facts(self.folder, facts)
        except BaseException:
            await self.stop()
            raise

    async def stop(self, *, failure: str | None = None) -> None:
        """Ends all components and removes the folder, or leaves it with `failure` for `reports` to find.

        May be called again, and then does nothing.
        """
        await asyncio.to_thread(self._stop_components)
        claim, self._claim = self._claim, None
        if claim is not None and failure is not None:
            (self.folder / folders.FAILURE_FILE).write_text(failure)
        elif claim is not None:
            await asyncio.to_thread(folders.release, claim)

    def check(self) -> None:
        """Raises `processes.ComponentDied` when one of the components has ended by itself."""
        for component in self._components:
            component.check()

    async def watch(self) -> None:
        """Returns never; raises `processes.ComponentDied` within half a second of a component's end."""
        while True:
            self.check()
            await asyncio.sleep(WATCH_S)

    def component_pids(self) -> dict[str, int]:
        """The pids of the components themselves, to measure them by; empty where the system doesn't tell (macOS)."""
        pids = {component.name: component.pid for component in self._components}
        return {name: pid for name, pid in pids.items() if pid is not None}

    def kubeconfig_for_user(self, user: str, groups: Sequence[str] = (), *, path: Path | None = None) -> Path:
        """Writes a kubeconfig with a new client certificate for `user` in `groups`."""
        file_name = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in user)
        pair = self.credentials.authority.issue_client(f"user-{file_name}", user, groups)
        return self.kubeconfig_for_certificate(pair, path=path or self.folder / f"{file_name}.kubeconfig")

    def kubeconfig_for_certificate(self, pair: pki.KeyPair, *, path: Path) -> Path:
        """Writes a kubeconfig for a client certificate that is there already; everything inline."""
        return kubeconfigs.for_certificate(
            path, url=self.url, authority_path=self.authority_path, pair=pair, name=f"bareboat-{self.name}"
        )

    def kubeconfig_for_token(self, token: str, *, path: Path) -> Path:
        """Writes a kubeconfig that carries `token`; for a ServiceAccount's, ask `kubectl create token`."""
        return kubeconfigs.for_token(
            path, url=self.url, authority_path=self.authority_path, token=token, name=f"bareboat-{self.name}"
        )

    async def _start_with_free_ports(self) -> None:
        for attempt in range(1, START_TRIES + 1):
            try:
                await self._start_components()
                return
            except processes.ComponentDied as death:
                if attempt == START_TRIES or PORT_TAKEN not in death.log_end:
                    raise
                await asyncio.to_thread(self._stop_components)
                await asyncio.to_thread(self._forget_attempt)

    async def _start_components(self) -> None:
        ports = components.Ports(*processes.free_ports(3))
        self.url = f"https://{components.ADDRESS}:{ports.apiserver}"
        with _Stage(self.stages, "certificates"):
            self._run("etcd", components.etcd(self.programs))
            self._prepare_files()
        async with self._client() as client:
            with _Stage(self.stages, "apiserver"):
                self._run("kube-apiserver", components.apiserver(self.programs, ports, self.credentials))
                # The others give up after ten seconds without an API server, so they have to wait for it.
                await self._until(client, "kube-apiserver", f"{self.url}/readyz")
            with _Stage(self.stages, "controllers"):
                self._run(
                    "kube-controller-manager",
                    components.controller_manager(self.programs, ports, self.credentials),
                )
                self._run("kube-scheduler", components.scheduler(self.programs, ports, self.credentials))
                address = f"https://{components.ADDRESS}"
                await self._until(client, "kube-controller-manager", f"{address}:{ports.controller_manager}/healthz")
                await self._until(client, "kube-scheduler", f"{address}:{ports.scheduler}/readyz")
                default = f"{self.url}/api/v1/namespaces/default/serviceaccounts/default"
                await self._until(client, "kube-controller-manager", default)

    def _prepare_files(self) -> None:
        self.credentials = components.create_credentials(self.folder)
        for name, pair in (
            ("kubeconfig", self.credentials.admin),
            ("controller-manager.kubeconfig", self.credentials.controller_manager),
            ("scheduler.kubeconfig", self.credentials.scheduler),
        ):
            self.kubeconfig_for_certificate(pair, path=self.folder / name)

    def _forget_attempt(self) -> None:
        # The next attempt has keys of its own, which would not fit the tokens and certificates in etcd.
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        for log_path in self.folder.glob("*.log"):
            log_path.unlink()

    def _run(self, name: str, command: Sequence[str | Path]) -> None:
        self._components.append(processes.Component(name, command, folder=self.folder))

    def _stop_components(self) -> None:
        for component in reversed(self._components):
            component.stop()
        self._components.clear()

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[aiohttp.ClientSession]:
        tls = ssl.create_default_context(cafile=self.authority_path)
        tls.load_cert_chain(self.admin.certificate_path, self.admin.key_path)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout) as client:
            yield client

    async def _until(self, client: aiohttp.ClientSession, component: str, url: str) -> None:
        """Waits until a GET of `url` answers 200, while all components live."""
        give_up_s = time.monotonic() + self.settings.ready_timeout_s
        while True:
            self.check()
            try:
                async with client.get(url) as response:
                    if response.status == 200:
                        return
                    answer = f"{response.status}: {(await response.text())[:500]}"
            except (aiohttp.ClientError, TimeoutError) as error:
                answer = str(error) or type(error).__name__
            if time.monotonic() > give_up_s:
                log = processes.log_end(self.folder / f"{component}.log")
                raise NotReady(
                    f"{component} was not ready within {self.settings.ready_timeout_s:g} s: {url} says {answer}\n{log}"
                )
            await asyncio.sleep(POLL_S)


class _Stage:
    """Notes how long a block took."""

    def __init__(self, stages: dict[str, float], name: str) -> None:
        self._stages = stages
        self._name = name

    def __enter__(self) -> None:
        self._started_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._stages[self._name] = time.monotonic() - self._started_s
