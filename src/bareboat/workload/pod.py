"""The parts of a Pod that Bareboat reads, as the API server sends them. What is not named here is not decoded.

Times stay RFC 3339 strings; quantities stay strings. Nothing here is ever written back whole.
"""

from typing import Any

import msgspec

from bareboat.kube import objects


class KeySelector(msgspec.Struct, gc=False, omit_defaults=True):
    """A key of a ConfigMap or Secret."""

    key: str = ""
    name: str = ""
    optional: bool = False


class FieldSelector(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    field_path: str = ""
    api_version: str = "v1"


class ResourceSelector(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    resource: str = ""
    container_name: str = ""
    divisor: str | int = ""


class EnvSource(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    field_ref: FieldSelector | None = None
    resource_field_ref: ResourceSelector | None = None
    file_key_ref: dict[str, Any] | None = None


class EnvVar(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    name: str = ""
    value: str = ""
    value_from: EnvSource | None = None


class NameSelector(msgspec.Struct, gc=False, omit_defaults=True):
    name: str = ""
    optional: bool = False


class EnvFrom(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    prefix: str = ""
    config_map_ref: NameSelector | None = None
    secret_ref: NameSelector | None = None


class ContainerPort(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(name="hostIP", default="")


class Resources(msgspec.Struct, gc=False, omit_defaults=True):
    limits: dict[str, str | int | float] = {}
    requests: dict[str, str | int | float] = {}
    claims: list[dict[str, Any]] = []


class VolumeMount(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    name: str = ""
    mount_path: str = ""
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False
    mount_propagation: str = ""
    recursive_read_only: str = ""


class Container(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    name: str = ""
    image: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str = ""
    env: list[EnvVar] = []
    env_from: list[EnvFrom] = []
    ports: list[ContainerPort] = []
    resources: Resources = msgspec.field(default_factory=Resources)
    volume_mounts: list[VolumeMount] = []
    volume_devices: list[dict[str, Any]] = []
    image_pull_policy: str = ""
    resize_policy: list[dict[str, Any]] = []
    termination_message_path: str = ""
    termination_message_policy: str = "File"
    liveness_probe: dict[str, Any] | None = None
    readiness_probe: dict[str, Any] | None = None
    startup_probe: dict[str, Any] | None = None
    lifecycle: dict[str, Any] | None = None
    security_context: dict[str, Any] | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    restart_policy: str = ""
    restart_policy_rules: list[dict[str, Any]] = []

    @property
    def is_sidecar(self) -> bool:
        """Of an init container: it stays beside the containers instead of ending before they start."""
        return self.restart_policy == "Always"


class Volume(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    """`sources` of a volume are told apart by which field is set; only those that matter by themselves are named."""

    name: str = ""
    projected: dict[str, Any] | None = None
    empty_dir: dict[str, Any] | None = None
    config_map: dict[str, Any] | None = None
    secret: dict[str, Any] | None = None
    downward_api: dict[str, Any] | None = msgspec.field(name="downwardAPI", default=None)
    persistent_volume_claim: dict[str, Any] | None = None
    host_path: dict[str, Any] | None = None
    csi: dict[str, Any] | None = None
    ephemeral: dict[str, Any] | None = None
    nfs: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    git_repo: dict[str, Any] | None = None


class PodSpec(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    containers: list[Container] = []
    init_containers: list[Container] = []
    ephemeral_containers: list[dict[str, Any]] = []
    volumes: list[Volume] = []
    node_name: str = ""
    restart_policy: str = "Always"
    active_deadline_seconds: int | None = None
    termination_grace_period_seconds: int | None = None
    service_account_name: str = ""
    scheduler_name: str = ""
    enable_service_links: bool | None = None
    hostname: str = ""
    subdomain: str = ""
    hostname_override: str | None = None
    set_hostname_as_fqdn: bool | None = msgspec.field(name="setHostnameAsFQDN", default=None)
    automount_service_account_token: bool | None = None
    host_users: bool | None = None
    os: dict[str, str] | None = None
    resource_claims: list[dict[str, Any]] = []
    dns_policy: str = ""
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    host_ipc: bool = msgspec.field(name="hostIPC", default=False)
    host_aliases: list[dict[str, Any]] = []
    dns_config: dict[str, Any] | None = None
    share_process_namespace: bool = False
    image_pull_secrets: list[NameSelector] = []
    readiness_gates: list[dict[str, str]] = []
    runtime_class_name: str = ""
    security_context: dict[str, Any] | None = None
    overhead: dict[str, Any] = {}


class Condition(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    last_probe_time: str | None = None
    observed_generation: int = 0


class Waiting(msgspec.Struct, gc=False, omit_defaults=True):
    reason: str = ""
    message: str = ""


class Running(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    started_at: str | None = None


class Terminated(msgspec.Struct, gc=False, rename="camel"):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str = msgspec.field(name="containerID", default="")
    signal: int = 0


class ContainerState(msgspec.Struct, gc=False, omit_defaults=True):
    """Exactly one of the three is set."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, gc=False, rename="camel"):
    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(name="imageID", default="")
    container_id: str = msgspec.field(name="containerID", default="")
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)


class HostIP(msgspec.Struct, gc=False):
    ip: str = ""


class PodStatus(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[Condition] = []
    host_ip: str = msgspec.field(name="hostIP", default="")
    host_ips: list[HostIP] = msgspec.field(name="hostIPs", default_factory=list)
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[HostIP] = msgspec.field(name="podIPs", default_factory=list)
    start_time: str | None = None
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []
    ephemeral_container_statuses: list[ContainerStatus] = []
    observed_generation: int = 0


class Pod(msgspec.Struct, gc=False, omit_defaults=True):
    metadata: objects.ObjectMeta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def key(self) -> tuple[str, str]:
        return self.metadata.namespace, self.metadata.name
