"""The one page that names concrete classes: settings in, one TaskGroup of supervised parts out."""

import asyncio
import contextlib
import functools
import ipaddress
import os
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import aiohttp
import prometheus_client
import structlog

from bareboat import settings as settings_
from bareboat.clouds import discovery
from bareboat.core import budget, criteria, needs
from bareboat.core import cloud as clouds
from bareboat.core import errors as cloud_errors
from bareboat.fleet import accounts, broker, latency, reaper, watcher
from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import election, events, informer, leases, resources
from bareboat.kube import errors as kube_errors
from bareboat.kubelet import authn, authz, certificates, client_ca, routes, server, serving_certificate
from bareboat.node import (
    container_logs,
    containers,
    controller,
    deliveries,
    installation_key,
    inventory,
    metrics,
    node_object,
    orphans,
    parts,
    pod_inputs,
    registration,
    selection_source,
    sessions,
    spending,
)
from bareboat.offload import binder, credit, health
from bareboat.offload import controller as offload_controller
from bareboat.offload import jobs as offload_jobs
from bareboat.offload import settings as offload_settings
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise
from bareboat.provision import figures, provisioner
from bareboat.provision import server as provision_server
from bareboat.registry import client as registries
from bareboat.workload import access, selection, sources
from bareboat.workload import pod as pods

log = structlog.get_logger()

EXPLAIN_S = 30.0
"""Longest wait for the lists that a dry run is made of."""


@dataclass
class NodeProgram:
    """`bareboat node`, put together. `run()` ends only by cancellation or `supervise.Fatal`."""

    spec: node_object.Spec
    use: parts.Parts
    pods: controller.Pods
    server: server.Server
    supervised: dict[str, Callable[[], object]]
    election: election.Election | None

    async def run(self) -> None:
        """Runs every part under its name, as soon as this is the active process of the node."""
        if self.election is None:
            await self._lead()
            return
        try:
            await self.election.run(self._lead)
        except election.Lost as lost:
            raise supervise.Fatal(f"another process of {self.spec.name} may be active now: {lost}") from lost

    async def _lead(self) -> None:
        """Ways into machines outlive the server: it tells whoever streams through them that the node stops."""
        sessions = contextlib.nullcontext() if self.use.ssh is None else self.use.ssh.sessions
        async with sessions, self.server, asyncio.TaskGroup() as group:
            log.info("node.starting", node=self.spec.name, kubelet_port=self.server.port)
            for name, part in self.supervised.items():
                group.create_task(supervise.supervise(name, part, clock=self.use.clock), name=name)  # type: ignore[arg-type]


def open_clouds(names: str, clock: clocks.Clock) -> dict[str, clouds.Cloud]:
    """The clouds of a comma-separated list, from their own settings. Raises `settings.Bad` with all that is wrong."""
    opened: dict[str, clouds.Cloud] = {}
    problems: list[str] = []
    for name in dict.fromkeys(part.strip() for part in names.split(",") if part.strip()):
        try:
            driver = discovery.driver(name)
            opened[name] = driver.open(settings_.read(driver.settings), clock)
        except ValueError as wrong:
            problems.append(str(wrong))
    if problems or not opened:
        raise settings_.Bad("\n".join(problems) or "BAREBOAT_CLOUDS names no cloud")
    return opened


def ssh_key(client: clients.Client, clock: clocks.Clock, about: settings_.Node) -> installation_key.InstallationKey:
    """By which this installation reaches its machines."""
    return installation_key.InstallationKey(client, clock, namespace=about.lease_namespace, name=about.ssh_secret)


@contextlib.asynccontextmanager
async def node(
    about: settings_.Node,
    renting: settings_.Renting,
    config: configs.Config,
    *,
    clock: clocks.Clock | None = None,
) -> AsyncIterator[NodeProgram]:
    """Opens clients and clouds, and closes them on the way out; what is rented stays rented."""
    clock = clock or clocks.SystemClock()
    opened = open_clouds(about.clouds, clock)
    rules = selection.from_environment(os.environ)
    async with contextlib.AsyncExitStack() as stack:
        for cloud in opened.values():
            stack.push_async_callback(cloud.close)
        client = await stack.enter_async_context(clients.Client(config, connections=24, clock=clock))
        # The heartbeat must not wait behind a burst of status writes.
        beat = await stack.enter_async_context(clients.Client(config, connections=2, timeout_s=8.0, clock=clock))
        recorder = events.Recorder(client, host=about.node_name, clock=clock)
        stack.push_async_callback(recorder.flush)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        images = registries.Registries(session, clock=clock, mirrors=about.mirrors())
        yield await _Node(about, renting, config, clock, client, beat, recorder, opened, rules, images).build()


@contextlib.asynccontextmanager
async def offload(
    about: offload_settings.Offload,
    node_about: settings_.Node,
    renting: settings_.Renting,
    config: configs.Config,
    *,
    clock: clocks.Clock | None = None,
) -> AsyncIterator[NodeProgram]:
    """`bareboat offload`: the virtual node with the policy among its parts, and health served whoever leads. No pod of
    this node costs more than the policy allows, whatever its annotations have become."""
    clock = clock or clocks.SystemClock()
    cap = min(renting.pod_usd_per_hour_cap or about.max_gpu_price, about.max_gpu_price)
    # Six calls a minute are a quiet cloud's share: the balance that is looked at beside the list comes out of these.
    capped = {
        "watch_idle_s": renting.watch_idle_s * 1.1,
        "max_usd_per_hour": min(renting.max_usd_per_hour, cap),
        "pod_usd_per_hour_cap": cap,
    }
    async with node(node_about, renting.model_copy(update=capped), config, clock=clock) as program:
        use = program.use
        purses = credit.Credit({name: account.cloud for name, account in use.accounts.items()}, clock)
        binding = binder.Binder(
            use.client,
            node_about.node_name,
            access.Access(node_about.access),
            defaults=use.defaults,
            fits=functools.partial(_none_fits, use),
        )
        policy = _policy(about, node_about, binding, use.client, use.recorder, clock)
        policy.trouble_of_clouds = functools.partial(_no_cloud, use, purses)
        program.supervised |= {
            "offload.credit": purses.run,
            "offload.policy": policy.run,
            "offload.results": policy.results.run,
            **{f"offload.{name}": each.run for name, each in policy.informers.items()},
        }
        state = health.Health(
            lambda: policy.passed_s, policy.waits_for, policy.trouble, about.reconcile_interval, clock
        )
        async with health.Server(state, about.health_address()) as serving:
            log.info("offload.starting", node=node_about.node_name, health_port=serving.port)
            yield program


async def explain(
    about: offload_settings.Offload, node_about: settings_.Node, config: configs.Config
) -> list[tuple[offload_jobs.Job, str, str]]:
    """(Job, what would become of it now, why). Changes nothing, rents nothing, asks no cloud."""
    clock = clocks.SystemClock()
    async with clients.Client(config, connections=4, clock=clock) as client:
        recorder = events.Recorder(client, clock=clock)  # never run: what it notes is told to nobody
        binding = binder.Binder(client, node_about.node_name, access.Access(node_about.access))  # never asked to bind
        policy = _policy(about, node_about, binding, client, recorder, clock)
        lists = [asyncio.create_task(each.run(), name=name) for name, each in policy.informers.items()]
        try:
            for each in policy.informers.values():
                await each.wait_synced(EXPLAIN_S)
            return policy.explained()
        finally:
            for task in lists:
                task.cancel()
            await asyncio.gather(*lists, return_exceptions=True)


def _policy(
    about: offload_settings.Offload,
    node_about: settings_.Node,
    binding: binder.Binder,
    client: clients.Client,
    recorder: events.Recorder,
    clock: clocks.Clock,
) -> offload_controller.Offload:
    return offload_controller.Offload(
        client,
        recorder,
        clock,
        about.rules(),
        node_name=node_about.node_name,
        binder=binding,
        reconcile_s=about.reconcile_interval,
    )


@contextlib.asynccontextmanager
async def provision(
    about: settings_.Provision, config: configs.Config, *, clock: clocks.Clock | None = None
) -> AsyncIterator[provision_server.Server]:
    """`bareboat provision`, listening; says at once what would make requests fail."""
    clock = clock or clocks.SystemClock()
    async with clients.Client(config, connections=32, clock=clock) as client:
        works = provisioner.Provisioner(client, about.namespace, clock, most_pods=about.max_pods or None)
        async with provision_server.Server(about.server(), works, figures.Figures(client), clock) as serving:
            await serving.tell_readiness()
            yield serving


class _Node:
    """Builds a NodeProgram; the order of the methods is the order of dependence."""

    def __init__(
        self,
        about: settings_.Node,
        renting: settings_.Renting,
        config: configs.Config,
        clock: clocks.Clock,
        client: clients.Client,
        beat: clients.Client,
        recorder: events.Recorder,
        opened: dict[str, clouds.Cloud],
        rules: criteria.Criteria,
        images: registries.Registries,
    ) -> None:
        self._images = images
        self._about = about
        self._renting = renting
        self._config = config
        self._clock = clock
        self._client = client
        self._beat = beat
        self._recorder = recorder
        self._opened = opened
        self._selection = selection_source.SelectionSource(
            client, selection.Live(rules), recorder, about.node_name, clock
        )
        self._address = about.address or self._found_address()

    async def build(self) -> NodeProgram:
        use = self._parts(await self._cluster_id())
        assert use.ssh is not None
        listening = informer.Informer(
            self._client,
            resources.PODS,
            pods.Pod,
            field_selector=f"spec.nodeName={self._about.node_name}",
            clock=self._clock,
        )
        looked_after = controller.Pods(use, listening, workers=self._about.workers)
        sweeper = orphans.Orphans(use, looked_after.records, guard_age_s=self._renting.guard_age_s)
        self._connect(use, looked_after, sweeper)
        purse = spending.Spending(
            self._client,
            use.broker.ledger,
            self._clock,
            namespace=self._about.lease_namespace,
            name=spending.name_for(self._about.node_name),
        )
        looked_after.hold_until(purse.restored)
        serving = self._serving_certificate()
        api = self._server(use, looked_after, serving)
        lease = leases.NodeLease(self._beat, self._about.node_name, clock=self._clock)
        node = registration.Registration(
            self._client, lambda: self._spec(api.port), lambda: _health(use), lease, self._clock
        )
        authority = self._about.client_ca_file
        elected = election.Election(
            self._beat,
            self._about.lease_namespace,
            f"bareboat-{self._about.node_name}",
            election.identity(),
            clock=self._clock,
        )
        return NodeProgram(
            spec=self._spec(api.port),
            use=use,
            pods=looked_after,
            server=api,
            election=elected if self._about.leader_election else None,
            supervised={
                "node.registration": node.run,
                "node.lease": lease.run,
                "node.selection": self._selection.run,
                "node.pods": looked_after.run,
                "node.informer": listening.run,
                "node.orphans": sweeper.run,
                "node.spending": purse.run,
                "node.ssh-key": use.ssh.key.run,
                "node.events": self._recorder.run,
                "kubelet.certificate": serving.run,
                "kubelet.client-ca": lambda: client_ca.keep(
                    serving.tls.trust, self._client, self._clock, file=authority
                ),
                **{f"{name}.watcher": account.watcher.run for name, account in use.accounts.items()},
                **{f"{name}.reaper": account.reaper.run for name, account in use.accounts.items()},
            },
        )

    async def _cluster_id(self) -> str:
        try:
            return await inventory.cluster_id(self._client, self._about.cluster_id)
        except kube_errors.Forbidden as refused:
            raise supervise.Fatal(
                f"the cluster's identity can't be read ({refused}); grant get on namespace kube-system or set "
                "BAREBOAT_CLUSTER_ID to a name of your own that never changes",
                exit_code=2,
            ) from refused

    def _found_address(self) -> str:
        server = urllib.parse.urlsplit(self._config.server)
        return settings_.own_address(server.hostname or "127.0.0.1", server.port or 443)

    def _parts(self, cluster_id: str) -> parts.Parts:
        ledger = budget.Ledger(self._renting.limits())
        buying = broker.Broker(
            self._opened,
            self._clock,
            ledger,
            selection=self._selection.now,
            latencies=latency.Latencies(self._clock),
        )
        window_s = max(cloud.visibility_window_s for cloud in self._opened.values())
        inputs = pod_inputs.PodInputs(self._client, clock=self._clock)
        facts = sources.NodeFacts((self._address,), self._about.capacity())
        return parts.Parts(
            cluster_id=cluster_id,
            node_name=self._about.node_name,
            host_ip=self._address,
            client=self._client,
            recorder=self._recorder,
            clock=self._clock,
            broker=buying,
            accounts={name: self._account(cloud) for name, cloud in self._opened.items()},
            inputs=inputs,
            defaults=self._renting.defaults(),
            policy=self._renting.policy(window_s),
            facts=facts,
            rents_for=self._about.rent_for,
            ssh=self._ssh(inputs, facts),
        )

    def _ssh(self, inputs: pod_inputs.PodInputs, facts: sources.NodeFacts) -> parts.SshAccess:
        about = self._about
        key = ssh_key(self._client, self._clock, about)
        gathering = deliveries.Deliveries(self._client, inputs, self._images, facts, self._clock)
        return parts.SshAccess(key, gathering, sessions.Sessions(key, self._clock), default=access.Access(about.access))

    def _account(self, cloud: clouds.Cloud) -> accounts.Account:
        watching = watcher.Watcher(
            cloud, self._clock, idle_s=self._renting.watch_idle_s, busy_s=self._renting.watch_busy_s
        )
        return accounts.Account(cloud, watching, reaper.Reaper(cloud, watching, self._clock))

    @staticmethod
    def _connect(use: parts.Parts, looked_after: controller.Pods, sweeper: orphans.Orphans) -> None:
        for name, account in use.accounts.items():
            account.watcher.on_change.append(looked_after.changed)
            account.watcher.on_listing.append(looked_after.listed)
            account.watcher.on_listing.append(sweeper.listed)
            account.reaper.on_ended.append(functools.partial(looked_after.ended, name))

    def _serving_certificate(self) -> serving_certificate.ServingCertificate:
        return serving_certificate.ServingCertificate(
            self._client,
            self._about.node_name,
            lambda: certificates.Names(addresses=(self._address,)),
            serving_certificate.Settings(
                self._about.certificate_file, self._about.key_file, approve_own=self._about.approve_certificate
            ),
            self._clock,
        )

    def _server(
        self, use: parts.Parts, looked_after: controller.Pods, serving: serving_certificate.ServingCertificate
    ) -> server.Server:
        sent = {"node": self._client.sent, "lease": self._beat.sent}
        figures = metrics.Figures(use, looked_after, sent)

        async def all_pods() -> list[pods.Pod]:
            return looked_after.all

        async def running_pods() -> list[pods.Pod]:
            return running(looked_after.all)

        assert use.ssh is not None
        reached = containers.Containers(looked_after, use.ssh.sessions)
        handlers = routes.Handlers(
            container_logs=container_logs.ContainerLogs(use, looked_after),
            has_pod=lambda namespace, name, uid: _has(looked_after, namespace, name, uid),
            containers=reached,
            pods=all_pods,
            running_pods=running_pods,
            metrics=functools.partial(prometheus_client.generate_latest, metrics.registry(figures)),
        )
        return server.Server(
            handlers,
            tls=serving.tls,
            authenticator=authn.Authenticator(self._client, self._about.authentication(), self._clock),
            authorizer=authz.Authorizer(self._client, self._about.node_name, self._about.authorization(), self._clock),
            settings=self._about.serving(listening_host(self._address), self._about.kubelet_port),
            clock=self._clock,
        )

    def _spec(self, port: int) -> node_object.Spec:
        return node_object.Spec(
            name=self._about.node_name,
            address=self._address,
            port=port,
            capacity=self._about.capacity(),
            labels=self._about.extra_labels(),
            taint=self._about.taint(),
        )


def _has(looked_after: controller.Pods, namespace: str, name: str, uid: str | None) -> bool:
    pod = looked_after.by_name(namespace, name)
    return pod is not None and uid in (None, pod.metadata.uid)


def running(known: Iterable[pods.Pod]) -> list[pods.Pod]:
    """Those that have a process now, which `/runningpods/` and the statistics are about."""
    return [pod for pod in known if pod.status.phase == "Running"]


def listening_host(address: str) -> str:
    """Every address of the family by which the API server reaches us; a node on loopback (a sandbox) listens there
    alone."""
    parsed = ipaddress.ip_address(address)
    if parsed.is_loopback:
        return address
    return "0.0.0.0" if parsed.version == 4 else "::"


def _no_cloud(use: parts.Parts, purses: credit.Credit) -> str | None:
    """Why pods can be rented for on none of the clouds now; None when they can on one at least."""
    told = {name: _of_account(name, account, purses) for name, account in use.accounts.items()}
    return None if None in told.values() else "; ".join(f"{name}: {why}" for name, why in told.items())


def _of_account(name: str, account: accounts.Account, purses: credit.Credit) -> str | None:
    if account.watcher.trouble is None and not account.watcher.complete.is_set():
        return "it has not answered yet"
    return account.watcher.trouble or purses.trouble(name)


async def _none_fits(use: parts.Parts, wanted: needs.Needs, namespace: str) -> str | None:
    """Why nothing can be rented now, by the search that renting would begin with, which is kept for some seconds."""
    try:
        choice = await use.broker.choose(wanted, namespace=namespace)
    except broker.NoOffers as none:
        return none.sentence
    except cloud_errors.CloudError as trouble:
        return str(trouble)
    use.broker.put_back(choice)
    room = use.broker.ledger.room_usd_per_hour(namespace, use.clock.now_s())
    if room is not None and choice.usd_per_hour > room:
        return (
            f"the best offer is {choice.usd_per_hour:.3f} $/h; the caps leave {room:.3f} $/h to namespace {namespace}"
        )
    return None


def _health(use: parts.Parts) -> node_object.Health:
    """In trouble when no cloud can be asked; one of several in trouble leaves the others to rent from."""
    troubles = {name: account.watcher.trouble for name, account in use.accounts.items()}
    if any(trouble is None for trouble in troubles.values()):
        return node_object.Health()
    refused = any(account.watcher.refused for account in use.accounts.values())
    told = "; ".join(f"{name}: {trouble}" for name, trouble in troubles.items())
    return node_object.Health(told, "CredentialsRefused" if refused else "CloudUnreachable")
