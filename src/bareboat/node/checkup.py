"""Looks at what the node needs from outside: the cloud's account, the cluster, its rights there, the clock, its Node.

Each look ends in findings, never in an exception of cloud or cluster: what can't be found out is a finding too. Nothing
is changed; the API server's time comes from a creation that it only pretends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from bareboat.core import cloud as clouds
from bareboat.core import errors, instances
from bareboat.kube import client as clients
from bareboat.kube import errors as kube_errors
from bareboat.kube import leases, objects, resources
from bareboat.node import inventory, node_object, registration
from bareboat.plumbing import clock as clocks
from bareboat.workload import status as statuses

SKEW_WARNING_S, SKEW_BAD_S = 5.0, 60.0
LASTS_WARNING_H = 24.0
REVIEWS = "/apis/authorization.k8s.io/v1"


class Verdict(Enum):
    OK = "ok"
    WARNING = "warning"
    BAD = "BAD"


@dataclass(frozen=True, slots=True)
class Finding:
    """`told` says what is and, when it is not well, what to do."""

    subject: str
    verdict: Verdict
    told: str


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that the node does in the cluster. `name` narrows it to one object; an empty namespace is all."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        below = f"/{self.subresource}" if self.subresource else ""
        named = f" {self.name}" if self.name else ""
        place = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{below}{named}{place}"

    def attributes(self) -> dict[str, str]:
        told = {
            "verb": self.verb,
            "group": self.group,
            "resource": self.resource,
            "subresource": self.subresource,
            "namespace": self.namespace,
            "name": self.name,
        }
        return {name: value for name, value in told.items() if value}


def rights(node: str, lease_namespace: str) -> tuple[Right, ...]:
    """What `deploy/` grants and every node uses; what depends on settings is left out."""
    coordination, certificates = "coordination.k8s.io", "certificates.k8s.io"
    elected = f"bareboat-{node}"
    return (
        Right("create", "nodes"),
        *(Right(verb, "nodes", name=node) for verb in ("get", "patch")),
        Right("patch", "nodes", subresource="status", name=node),
        *(Right(verb, "pods") for verb in ("get", "list", "watch", "delete")),
        Right("patch", "pods", subresource="status"),
        *(Right(verb, "events") for verb in ("create", "patch")),
        Right("create", "tokenreviews", "authentication.k8s.io"),
        Right("create", "subjectaccessreviews", "authorization.k8s.io"),
        *(Right(verb, "certificatesigningrequests", certificates) for verb in ("create", "get")),
        Right("create", "leases", coordination, namespace=leases.NAMESPACE),
        *(Right(verb, "leases", coordination, namespace=leases.NAMESPACE, name=node) for verb in ("get", "update")),
        Right("create", "leases", coordination, namespace=lease_namespace),
        *(Right(verb, "leases", coordination, namespace=lease_namespace, name=elected) for verb in ("get", "update")),
    )


class _Verdict(objects.Partial, frozen=True):
    allowed: bool = False


class _Review(objects.Partial, frozen=True):
    status: _Verdict


async def account(cloud: clouds.Cloud) -> list[Finding]:
    """Key and balance of one cloud. A list of instances and, where the cloud tells it, the credit."""
    try:
        rented = (await cloud.instances()).instances
    except errors.CredentialsRefused as refused:
        return [Finding(f"{cloud.name} key", Verdict.BAD, f"it is refused: {refused}")]
    except errors.CloudError as trouble:
        return [Finding(f"{cloud.name} key", Verdict.BAD, f"the cloud can't be asked: {trouble}")]
    usd_per_hour = sum(each.usd_per_hour or 0.0 for each in rented)
    told = f"it is accepted; {len(rented)} instances on the account, {usd_per_hour:.3f} $/h"
    found = [Finding(f"{cloud.name} key", Verdict.OK, told)]
    if isinstance(cloud, clouds.HasBilling):
        found.append(await _balance(cloud, rented))
    return found


async def _balance(cloud: Any, rented: Iterable[instances.Instance]) -> Finding:
    subject = f"{cloud.name} balance"
    try:
        usd = float(await cloud.credit_usd())
    except errors.CloudError as trouble:
        return Finding(subject, Verdict.WARNING, f"it is unknown: {trouble}")
    usd_per_hour = sum(each.usd_per_hour or 0.0 for each in rented)
    if usd <= 0:
        return Finding(subject, Verdict.BAD, f"{usd:.2f} $: nothing can be rented, and what runs is stopped; top it up")
    if usd_per_hour and usd / usd_per_hour < LASTS_WARNING_H:
        hours = usd / usd_per_hour
        return Finding(subject, Verdict.WARNING, f"{usd:.2f} $ last {hours:.1f} h at what is rented now; top it up")
    return Finding(subject, Verdict.OK, f"{usd:.2f} $")


async def cluster(client: clients.Client, configured_id: str) -> tuple[list[Finding], str]:
    """Whether the API server answers and tells the cluster's identity; that too, empty if it can't be had."""
    try:
        whose = await inventory.cluster_id(client, configured_id)
    except kube_errors.Forbidden:
        told = "its identity can't be read: grant get on namespace kube-system, or set BAREBOAT_CLUSTER_ID"
        return [Finding("cluster", Verdict.BAD, told)], ""
    except kube_errors.KubeError as trouble:
        return [Finding("cluster", Verdict.BAD, f"{client.config.server} can't be asked: {trouble}")], ""
    return [Finding("cluster", Verdict.OK, f"{client.config.server} answers; its id is {whose}")], whose


async def permissions(client: clients.Client, needed: Iterable[Right], account_name: str = "") -> Finding:
    """What of it is missing: to the service account `namespace/name`, or to whoever asks. One call for each."""
    missing = []
    for right in needed:
        try:
            if not await _may(client, right, account_name):
                missing.append(str(right))
        except kube_errors.KubeError as trouble:
            return Finding("rights", Verdict.WARNING, f"they can't be found out: {trouble}")
    who = f"service account {account_name}" if account_name else "whoever asks here"
    if missing:
        return Finding("rights", Verdict.BAD, f"{who} may not {'; '.join(missing)}: apply deploy/10-rights.yaml")
    return Finding("rights", Verdict.OK, f"{who} may do all that every node does")


async def _may(client: clients.Client, right: Right, account_name: str) -> bool:
    spec: dict[str, Any] = {"resourceAttributes": right.attributes()}
    kind = "selfsubjectaccessreviews"
    if account_name:
        namespace, _, name = account_name.partition("/")
        kind = "subjectaccessreviews"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        spec |= {"user": f"system:serviceaccount:{namespace}:{name}", "groups": groups}
    review = await client.create(f"{REVIEWS}/{kind}", {"spec": spec}, type=_Review)
    return review.status.allowed


async def time(client: clients.Client, clock: clocks.Clock) -> Finding:
    """The API server's clock against ours: leases and money are counted in both."""
    about = {"kind": "Namespace", "name": "default", "namespace": "default", "apiVersion": "v1"}
    body = {"metadata": {"generateName": "bareboat-doctor-"}, "involvedObject": about, "reason": "Doctor"}
    started_s = clock.now_s()
    try:
        path = resources.EVENTS.path("default")
        answer = await client.request("POST", path, body, query={"dryRun": "All"})
        created = msgspec.json.decode(answer, type=objects.Metadata).metadata.creation_timestamp
    except (kube_errors.KubeError, msgspec.DecodeError) as trouble:
        return Finding("clock", Verdict.WARNING, f"the API server's time can't be had: {trouble}")
    if created is None:
        return Finding("clock", Verdict.WARNING, "the API server does not tell its time")
    return _skew(created.timestamp(), started_s, clock.now_s())


def _skew(server_s: float, from_s: float, until_s: float) -> Finding:
    """The server's time is in whole seconds, and lies somewhere between our two."""
    off_s = max(0.0, from_s - 1.0 - server_s, server_s - until_s)
    if off_s < SKEW_WARNING_S:
        return Finding("clock", Verdict.OK, "it agrees with the API server's")
    verdict = Verdict.BAD if off_s >= SKEW_BAD_S else Verdict.WARNING
    word = "behind" if server_s > until_s else "ahead of"
    return Finding("clock", verdict, f"it is {off_s:.0f} s {word} the API server's: have both set by NTP")


async def node(client: clients.Client, name: str, clock: clocks.Clock) -> list[Finding]:
    """The Node, its conditions and its heartbeat, as they stand in the API."""
    try:
        found = await client.get(resources.NODES.path(name=name), type=registration.Node)
        lease = await client.get(resources.LEASES.path(leases.NAMESPACE, name), type=leases.Lease)
    except kube_errors.NotFound as missing:
        what = "its Node does not exist" if "/nodes/" in missing.path else "it has no heartbeat"
        told = f"{what}: `bareboat node` does not run for {name}, or NODENAME is another one"
        return [Finding(f"node {name}", Verdict.WARNING, told)]
    except kube_errors.KubeError as trouble:
        return [Finding(f"node {name}", Verdict.WARNING, f"it can't be read: {trouble}")]
    return [_heartbeat(name, lease, clock.now_s()), *_conditions(name, found)]


def _heartbeat(name: str, lease: leases.Lease, now_s: float) -> Finding:
    renewed_s = statuses.unix_s(lease.spec.get("renewTime"))
    age_s = None if renewed_s is None else max(0.0, now_s - renewed_s)
    if age_s is None or age_s > leases.DURATION_S:
        ago = "never" if age_s is None else f"{age_s:.0f} s ago"
        told = f"its heartbeat was renewed {ago}: `bareboat node` does not run, or can't reach the API server"
        return Finding(f"node {name}", Verdict.BAD, told)
    return Finding(f"node {name}", Verdict.OK, f"its heartbeat is {age_s:.0f} s old")


def _conditions(name: str, found: registration.Node) -> list[Finding]:
    told: list[Finding] = []
    for each in found.status.conditions or ():
        kind, status, why = each.get("type"), each.get("status"), each.get("message") or each.get("reason") or "?"
        if kind == "Ready" and status != "True":
            told.append(Finding(f"node {name}", Verdict.BAD, f"it is not Ready: {why}"))
        if kind == node_object.CLOUD_REACHABLE and status == "False":
            told.append(Finding(f"node {name}", Verdict.BAD, f"it rents nothing now: {why}"))
    return told


def files(several: Mapping[str, Path]) -> list[Finding]:
    """Files that hold keys, by what they are: nobody else should be able to read them."""
    found = []
    for what, path in several.items():
        if path.is_file():
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                told = f"{path} can be read by others (mode {mode:o}): chmod 600 it"
                found.append(Finding(what, Verdict.WARNING, told))
            else:
                found.append(Finding(what, Verdict.OK, f"{path} is private"))
    return found
