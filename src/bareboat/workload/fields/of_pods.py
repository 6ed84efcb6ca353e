"""The field table's rows for a pod as a whole: PodSpec and what hangs on it except containers and volumes."""

from collections.abc import Callable, Mapping
from typing import Any

from bareboat.workload.fields import finders, rows

RUNTIME_CLASSES = frozenset({"", "nvidia"})

_HOST = "the host of a rented container belongs to somebody else, its namespaces can't be shared"
_ONE_MACHINE = "a pod here is one rented container"
_DNS = "a rented container is outside the cluster's network; its name resolution is the host's"
NOT_ENFORCED = "not enforced (asked: {value}); on a rented container the image and its host decide"

_API = rows.honoured("by the API server, before a node sees the pod")
_SCHEDULER = rows.honoured("by the scheduler")
_HOSTNAME = rows.left_out("the container's name is the pod's `hostname` or its own name, as far as the cloud takes it")

_CONTAINERS = rows.Rule(
    "spec.containers[1:]",
    f"{_ONE_MACHINE}; give {{value}} a pod of its own",
    True,
    finders.more_containers,
    rows.PLAIN,
)
_INIT = rows.Rule(
    "spec.initContainers[*]",
    f"{_ONE_MACHINE}; do the work of {{value}} in the command",
    True,
    finders.init_containers,
    rows.PLAIN,
)
_EPHEMERAL_PLAIN = rows.Rule(
    "spec.ephemeralContainers[*]",
    f"{_ONE_MACHINE}; {{value}} can't be added",
    True,
    finders.ephemeral_containers,
    rows.PLAIN,
)
_EPHEMERAL_SSH = rows.Rule(
    "spec.ephemeralContainers[*]",
    "{value} can't be added to a rented machine, which has one image; kubectl exec opens a shell in a container of it",
    False,
    finders.ephemeral_containers,
    rows.SSH,
)
_RUNTIME_CLASS = rows.Rule(
    "spec.runtimeClassName",
    f"it is '{{value}}'; allowed is {' or '.join(sorted(RUNTIME_CLASSES - {''}))}, or leave it out",
    True,
    finders.flag(
        "runtimeClassName", lambda spec: spec.runtime_class_name not in RUNTIME_CLASSES and spec.runtime_class_name
    ),
)
_OS = rows.Rule(
    "spec.os.name",
    "it is '{value}'; rented machines run linux",
    True,
    finders.flag(
        "os.name", lambda spec: (spec.os or {}).get("name") not in (None, "linux") and (spec.os or {})["name"]
    ),
)
_CLAIMS = rows.Rule(
    "spec.resourceClaims",
    "devices of the cluster can't be reached from a rented machine; ask for nvidia.com/gpu in a container's resources",
    True,
    finders.flag("resourceClaims", lambda spec: ", ".join(str(each.get("name")) for each in spec.resource_claims)),
)
_HOST_USERS = rows.Rule(
    "spec.hostUsers",
    "a user namespace of the pod's own is not made: the machine's runtime decides whether the container has one",
    False,
    finders.flag("hostUsers", lambda spec: "false" if spec.host_users is False else ""),
)


def _dns(field: str, access: frozenset[rows.Access] = rows.BOTH) -> rows.Rule:
    values = {
        "hostAliases": lambda spec: spec.host_aliases,
        "dnsConfig": lambda spec: spec.dns_config,
        "subdomain": lambda spec: spec.subdomain,
    }
    return rows.Rule(f"spec.{field}", _DNS, False, finders.flag(field, values[field]), access)


def _host(field: str, attribute: str) -> rows.Row:
    found = finders.flag(field, lambda spec: getattr(spec, attribute))
    return rows.row("PodSpec", field, rows.HONOURED, None, rows.Rule(f"spec.{field}", _HOST, True, found))


SPEC: tuple[rows.Row, ...] = (
    rows.row("PodSpec", "containers", rows.honoured("one"), rows.honoured("all that share one image"), _CONTAINERS),
    rows.row("PodSpec", "initContainers", rows.HONOURED, rows.honoured("in order, sidecars too"), _INIT),
    rows.row("PodSpec", "ephemeralContainers", rows.HONOURED, None, _EPHEMERAL_PLAIN, _EPHEMERAL_SSH),
    rows.row("PodSpec", "volumes", rows.honoured("see Volume")),
    _host("hostNetwork", "host_network"),
    _host("hostPID", "host_pid"),
    _host("hostIPC", "host_ipc"),
    rows.row("PodSpec", "hostUsers", rows.HONOURED, None, _HOST_USERS),
    rows.row("PodSpec", "runtimeClassName", rows.HONOURED, None, _RUNTIME_CLASS),
    rows.row("PodSpec", "os", rows.HONOURED, None, _OS),
    rows.row("PodSpec", "resourceClaims", rows.HONOURED, None, _CLAIMS),
    rows.row("PodSpec", "hostAliases", rows.HONOURED, rows.honoured("in the machine's `/etc/hosts`"),
             _dns("hostAliases", rows.PLAIN)),
    rows.row("PodSpec", "dnsConfig", rows.HONOURED, None, _dns("dnsConfig")),
    rows.row("PodSpec", "dnsPolicy", rows.left_out(_DNS)),
    rows.row("PodSpec", "subdomain", rows.HONOURED,
             rows.emulated("in the machine's `/etc/hosts`; the cluster's DNS has no record of it"),
             _dns("subdomain", rows.PLAIN)),
    *rows.all_of("PodSpec", "hostname hostnameOverride setHostnameAsFQDN", _HOSTNAME,
                 rows.emulated("in `/etc/hosts` and `HOSTNAME`; the kernel's name where a machine allows it")),
    rows.row("PodSpec", "shareProcessNamespace", rows.honoured("there is one container"),
             rows.emulated("the processes of a machine see each other, whatever is asked")),
    rows.row("PodSpec", "restartPolicy", rows.emulated("a container that ends starts again on a machine rented anew"),
             rows.honoured("in place, with the kubelet's back-off")),
    rows.row("PodSpec", "activeDeadlineSeconds", rows.HONOURED),
    rows.row("PodSpec", "terminationGracePeriodSeconds",
             rows.left_out("the cloud ends the container its own way"), rows.HONOURED),
    rows.row("PodSpec", "imagePullSecrets", rows.honoured("the best fitting login goes to the cloud, which pulls")),
    rows.row("PodSpec", "enableServiceLinks",
             rows.left_out("addresses of Services can't be reached from a rented machine; no variables are made"),
             rows.emulated("for Services that the pod can reach")),
    rows.row("PodSpec", "readinessGates", rows.HONOURED),
    rows.row("PodSpec", "securityContext", rows.honoured("see PodSecurityContext")),
    rows.row("PodSpec", "resources", rows.left_out("containers' resources count")),
    rows.row("PodSpec", "overhead", _SCHEDULER),
    rows.row("PodSpec", "nodeName", rows.HONOURED),
    *rows.all_of("PodSpec", "automountServiceAccountToken serviceAccount serviceAccountName", _API),
    *rows.all_of(
        "PodSpec",
        "affinity nodeSelector preemptionPolicy priority priorityClassName schedulerName schedulingGates "
        "schedulingGroup tolerations topologySpreadConstraints",
        _SCHEDULER,
    ),
)  # fmt: skip

_TWO_TERMS = "preferredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution"
SCHEDULING: tuple[rows.Row, ...] = tuple(
    row
    for kind, fields in {
        "Affinity": "nodeAffinity podAffinity podAntiAffinity",
        "NodeAffinity": _TWO_TERMS,
        "NodeSelector": "nodeSelectorTerms",
        "NodeSelectorRequirement": "key operator values",
        "NodeSelectorTerm": "matchExpressions matchFields",
        "PodAffinity": _TWO_TERMS,
        "PodAffinityTerm": "labelSelector matchLabelKeys mismatchLabelKeys namespaceSelector namespaces topologyKey",
        "PodAntiAffinity": _TWO_TERMS,
        "PodSchedulingGate": "name",
        "PodSchedulingGroup": "podGroupName",
        "PreferredSchedulingTerm": "preference weight",
        "Toleration": "effect key operator tolerationSeconds value",
        "TopologySpreadConstraint": "labelSelector matchLabelKeys maxSkew minDomains nodeAffinityPolicy "
        "nodeTaintsPolicy topologyKey whenUnsatisfiable",
        "WeightedPodAffinityTerm": "podAffinityTerm weight",
        "LabelSelector": "matchExpressions matchLabels",
        "LabelSelectorRequirement": "key operator values",
    }.items()
    for row in rows.all_of(kind, fields, _SCHEDULER)
)


_ASKS: Mapping[str, Callable[[Any], bool]] = {
    "allowPrivilegeEscalation": lambda value: value is False,
    "appArmorProfile.type": lambda value: value != "Unconfined",
    "capabilities.drop": bool,
    "fsGroup": finders.given,
    "procMount": lambda value: value != "Default",
    "readOnlyRootFilesystem": bool,
    "runAsGroup": finders.given,
    "runAsNonRoot": bool,
    "runAsUser": finders.given,
    "seLinuxOptions": bool,
    "seccompProfile.type": lambda value: value != "Unconfined",
    "supplementalGroups": bool,
    "supplementalGroupsPolicy": lambda value: value == "Strict",
    "sysctls": bool,
}


def not_enforced(kind: str, field: str, access: frozenset[rows.Access] = rows.PLAIN) -> rows.Rule:
    """The same words for everything in a securityContext that is taken and does nothing."""
    found = finders.security(field, _ASKS[field], pod=kind == "PodSecurityContext", container=kind == "SecurityContext")
    return rows.Rule(f"{kind}.{field}", NOT_ENFORCED, False, found, access)


def by_host(kind: str, field: str) -> rows.Rule:
    """What no way of access can set on a rented machine."""
    return not_enforced(kind, field, rows.BOTH)


def local_seccomp(kind: str) -> rows.Rule:
    found = finders.security(
        "seccompProfile.type",
        lambda value: value == "Localhost",
        pod=kind == "PodSecurityContext",
        container=kind == "SecurityContext",
    )
    return rows.Rule(f"{kind}.seccompProfile.type Localhost", NOT_ENFORCED, False, found, rows.SSH)


SECCOMP = rows.emulated("the machine's runtime applies its default profile to the whole container")

_POD_SECURITY = "PodSecurityContext"
SECURITY: tuple[rows.Row, ...] = (
    *(
        rows.row(_POD_SECURITY, field, rows.HONOURED, None, not_enforced(_POD_SECURITY, field))
        for field in ("runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "supplementalGroups")
    ),
    rows.row(_POD_SECURITY, "fsGroupChangePolicy", rows.left_out("see fsGroup"), rows.HONOURED),
    rows.row(_POD_SECURITY, "supplementalGroupsPolicy", rows.HONOURED, None,
             by_host(_POD_SECURITY, "supplementalGroupsPolicy")),
    rows.row(_POD_SECURITY, "seccompProfile", rows.HONOURED, SECCOMP,
             not_enforced(_POD_SECURITY, "seccompProfile.type"), local_seccomp(_POD_SECURITY)),
    rows.row(_POD_SECURITY, "appArmorProfile", rows.HONOURED, None, by_host(_POD_SECURITY, "appArmorProfile.type")),
    rows.row(_POD_SECURITY, "seLinuxOptions", rows.HONOURED, None, by_host(_POD_SECURITY, "seLinuxOptions")),
    rows.row(_POD_SECURITY, "seLinuxChangePolicy", rows.left_out("see seLinuxOptions")),
    rows.row(_POD_SECURITY, "sysctls", rows.HONOURED, None, by_host(_POD_SECURITY, "sysctls")),
    rows.row(_POD_SECURITY, "windowsOptions", rows.left_out("rented machines run linux")),
    *rows.all_of("Sysctl", "name value", rows.left_out("see PodSecurityContext.sysctls")),
)  # fmt: skip

SMALL: tuple[rows.Row, ...] = (
    *rows.all_of("HostAlias", "hostnames ip", rows.left_out("see PodSpec.hostAliases"), rows.HONOURED),
    *rows.all_of("LocalObjectReference", "name", rows.HONOURED),
    *rows.all_of("PodDNSConfig", "nameservers options searches", rows.left_out("see PodSpec.dnsConfig")),
    *rows.all_of("PodDNSConfigOption", "name value", rows.left_out("see PodSpec.dnsConfig")),
    *rows.all_of("PodOS", "name", rows.honoured("`linux`")),
    *rows.all_of("PodReadinessGate", "conditionType", rows.HONOURED),
    *rows.all_of(
        "PodResourceClaim",
        "name resourceClaimName resourceClaimTemplateName",
        rows.rejected("see PodSpec.resourceClaims"),
    ),
)
