"""The downward API: values that a container takes from its own pod and from its resources.

Pure. A value that would be a lie on a rented machine is refused with a sentence instead (Refused).
"""

import re
from collections.abc import Mapping, Sequence

from bareboat.workload import pod as pods
from bareboat.workload import quantities, sources

FIELDS = (
    "metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.labels['key'], metadata.annotations, "
    "metadata.annotations['key'], spec.nodeName, spec.serviceAccountName, status.hostIP and status.hostIPs"
)
RESOURCES = (
    "limits.cpu, limits.memory, limits.ephemeral-storage, requests.cpu, requests.memory, requests.ephemeral-storage "
    "and hugepages of either"
)
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]", re.DOTALL)
_DEFAULTED = frozenset({"cpu", "memory", "ephemeral-storage"})
_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"
}  # fmt: skip


class Refused(ValueError):
    """No value can be given, now or later; the message is for people."""


def field(pod: pods.Pod, path: str, node: sources.NodeFacts, pod_ips: Sequence[str] = ()) -> str:
    """The value of a fieldRef. Without `pod_ips` there is no truthful status.podIP, and it is refused."""
    subscripted = _SUBSCRIPT.fullmatch(path)
    if subscripted is not None:
        return _map(pod, subscripted[1]).get(subscripted[2], "")
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(_map(pod, path))
    if path in ("status.hostIP", "status.hostIPs"):
        if not node.addresses:
            raise Refused(f"fieldPath is {path!r}; this node has no address of its own to give")
        return node.addresses[0] if path == "status.hostIP" else ",".join(node.addresses)
    if path in ("status.podIP", "status.podIPs"):
        if not pod_ips:
            raise Refused(
                f"fieldPath is {path!r}; a rented container has no address in the cluster's network, and its public "
                f"one is not known before it is rented; take the variable out or set a literal value"
            )
        return pod_ips[0] if path == "status.podIP" else ",".join(pod_ips)
    plain = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.host": pod.spec.node_name,  # what old clients call it
        "spec.serviceAccountName": pod.spec.service_account_name,
    }
    if path not in plain:
        raise Refused(f"fieldPath is {path!r}; allowed are {FIELDS}")
    return plain[path]


def resource(pod: pods.Pod, container: pods.Container, selector: pods.ResourceSelector, node: sources.NodeFacts) -> str:
    """The value of a resourceFieldRef in units of its divisor, rounded up. A limit that the container does not set
    is the node's allocatable, as the kubelet does; a request that it does not set is 0."""
    named = _container(pod, container, selector.container_name)
    kind, _, name = selector.resource.partition(".")
    if kind not in ("limits", "requests") or not (name in _DEFAULTED or name.startswith("hugepages-")):
        raise Refused(f"resource is {selector.resource!r}; allowed are {RESOURCES}")
    given = (named.resources.limits if kind == "limits" else named.resources.requests).get(name, 0)
    round_up = quantities.milli if name == "cpu" else quantities.whole
    try:
        amount = round_up(given, selector.resource)
        if amount == 0 and kind == "limits" and name in _DEFAULTED:
            amount = round_up(node.allocatable.get(name, 0), f"allocatable {name} of the node")
        divisor = round_up(selector.divisor or "1", "divisor") or round_up("1")
    except quantities.Malformed as malformed:
        raise Refused(str(malformed)) from malformed
    return str(-(-amount // divisor))


def format_map(values: Mapping[str, str]) -> str:
    """Labels or annotations as the kubelet writes them: `key="value"` lines in order of keys, quoted as in Go."""
    return "\n".join(f"{key}={_quote(values[key])}" for key in sorted(values))


def _map(pod: pods.Pod, path: str) -> Mapping[str, str]:
    return (pod.metadata.labels if path == "metadata.labels" else pod.metadata.annotations) or {}


def _container(pod: pods.Pod, container: pods.Container, name: str) -> pods.Container:
    if not name or name == container.name:
        return container
    for other in (*pod.spec.containers, *pod.spec.init_containers):
        if other.name == name:
            return other
    raise Refused(f"containerName is {name!r}; the pod has no container of that name")


def _quote(text: str) -> str:
    return '"' + "".join(_escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
