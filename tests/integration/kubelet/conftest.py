"""A kubelet API on loopback that the real control plane knows as a Node, with pods whose logs the test decides."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import prometheus_client
import pytest

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import resources
from bareboat.kubelet import (
    authn,
    authz,
    certificates,
    client_ca,
    containers,
    logs,
    routes,
    server,
    serving_certificate,
    stats,
)
from bareboat.plumbing import clock as clocks
from bareboat.sandbox import controlplane

NAMESPACE = "default"
START_S = 1_790_000_000


Source = Callable[[logs.LogOptions], Awaitable[logs.Lines]]


@dataclass
class Log:
    """What a container has written, and what it still writes while followed."""

    lines: list[logs.LogLine] = field(default_factory=list)
    coming: asyncio.Queue[logs.LogLine | logs.LogsError | None] | None = None
    error: logs.LogsError | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, options: logs.LogOptions) -> logs.Lines:
        if self.error is not None:
            raise self.error
        return self._read(options)

    async def _read(self, options: logs.LogOptions) -> logs.Lines:
        try:
            for line in self.lines:
                yield line
            if options.follow and self.coming is not None:
                yield logs.CAUGHT_UP
                while (next_one := await self.coming.get()) is not None:
                    if isinstance(next_one, logs.LogsError):
                        raise next_one
                    yield next_one
        finally:
            self.closed.set()


@dataclass
class Names:
    """Where the node says it can be dialled; may be changed while it runs."""

    addresses: tuple[str, ...] = ("127.0.0.1",)


@dataclass
class Kubelet:
    """A node of the sandbox and its logs by (pod, container)."""

    node: str
    api: clients.Client
    sandbox: controlplane.ControlPlane
    served: server.Server
    certificate: serving_certificate.ServingCertificate
    sources: dict[tuple[str, str], Source]
    names: Names

    async def run_pod(self, name: str, log: Source, *, init: str = "", also: str = "") -> str:
        """Creates a pod bound to the node, says it runs, and returns its name. Its container is `main`; `init` names
        one that has run before it, `also` one beside it."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "nodeName": self.node,
                "automountServiceAccountToken": False,
                "containers": [{"name": each, "image": "example.com/any"} for each in ("main", also) if each],
                "initContainers": [{"name": init, "image": "example.com/any"}] if init else [],
            },
        }
        await self.api.create(resources.PODS.path(NAMESPACE), pod)
        running = {"name": "main", "image": "any", "imageID": "", "ready": True, "restartCount": 0}
        status = {"phase": "Running", "containerStatuses": [{**running, "state": {"running": {}}}]}
        await self.api.patch(resources.PODS.path(NAMESPACE, name, "status"), {"status": status})
        self.sources[name, "main"] = log
        return name

    async def kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs to its end, whatever that is."""
        command = [str(self.sandbox.kubectl_path), f"--kubeconfig={self.sandbox.kubeconfig_path}", *arguments]

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        return await asyncio.to_thread(run)

    async def start_kubectl(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self.sandbox.kubectl_path,
            f"--kubeconfig={self.sandbox.kubeconfig_path}",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@pytest.fixture
async def kubelet(sandbox: controlplane.ControlPlane, request: pytest.FixtureRequest) -> AsyncIterator[Kubelet]:
    name = "kubelet-" + "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower())[-50:]
    async with a_kubelet(sandbox, name.rstrip("-")) as running:
        yield running


@asynccontextmanager
async def a_kubelet(
    sandbox: controlplane.ControlPlane, node: str, pods: containers.Containers | None = None
) -> AsyncIterator[Kubelet]:
    """In plain access unless `pods` says what runs in them."""
    clock = clocks.SystemClock()
    names = Names()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(clients.Client(configs.load(sandbox.kubeconfig_path, environ={})))
        certificate = serving_certificate.ServingCertificate(
            api,
            node,
            lambda: certificates.Names(dns=(node,), addresses=names.addresses),
            serving_certificate.Settings(approve_own=True),
            clock,
        )
        by_container: dict[tuple[str, str], Source] = {}
        served = server.Server(
            handlers(by_container, pods or containers.Plain()),
            tls=certificate.tls,
            authenticator=authn.Authenticator(api, authn.Settings(), clock),
            authorizer=authz.Authorizer(api, node, authz.Settings(), clock),
            settings=server.Settings(host="127.0.0.1", port=0),
        )
        await stack.enter_async_context(served)
        keepers = [
            asyncio.create_task(certificate.run(), name="kubelet.serving-certificate"),
            asyncio.create_task(client_ca.keep(certificate.tls.trust, api, clock), name="kubelet.client-ca"),
        ]
        try:
            await api.create(resources.NODES.path(), node_manifest(node, served.port))
            async with asyncio.timeout(20):
                await certificate.issued.wait()
            yield Kubelet(node, api, sandbox, served, certificate, by_container, names)
            for pod in {pod for pod, _container in by_container}:
                await api.delete(resources.PODS.path(NAMESPACE, pod), grace_s=0)
            await api.delete(resources.NODES.path(name=node))
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.wait(keepers)


def node_manifest(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"unschedulable": True},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    }


def handlers(by_container: dict[tuple[str, str], Source], pods_: containers.Containers) -> routes.Handlers:
    async def container_logs(namespace: str, pod: str, container: str, options: logs.LogOptions) -> logs.Lines:
        log = by_container.get((pod, container))
        if namespace != NAMESPACE or log is None:
            raise logs.NotFound(f"pod {namespace}/{pod} has no container {container}")
        if options.previous:
            log = by_container.get((pod, f"previous {container}"))
            if log is None:
                raise logs.no_previous(container, pod)
        return await log(options)

    async def pods() -> list[dict[str, Any]]:
        return [{"metadata": {"name": pod, "namespace": NAMESPACE}} for pod, _container in by_container]

    return routes.Handlers(
        container_logs=container_logs,
        has_pod=lambda namespace, pod, _uid: namespace == NAMESPACE and (pod, "main") in by_container,
        pods=pods,
        running_pods=pods,
        metrics=lambda: stats.registry_text(prometheus_client.CollectorRegistry()),
        configuration={"port": server.PORT},
        containers=pods_,
    )


def written(*texts: str, every_s: float = 1.0) -> list[logs.LogLine]:
    """Lines written one after the other from `START_S` on."""
    return [
        logs.LogLine(int((START_S + number * every_s) * logs.NS), text.encode()) for number, text in enumerate(texts)
    ]
