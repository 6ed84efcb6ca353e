"""Everything that can be set about Bareboat itself, in small groups; a cloud's settings lie in its own folder.

Each field is an environment variable (the name in its `alias`, or `BAREBOAT_` and the field's name); commands override
single fields by flags; a file of `NAME=value` lines named by `BAREBOAT_ENV_FILE` comes below the environment.
"""

import ipaddress
import os
import re
import socket
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic
import pydantic_settings

from bareboat.clouds.vast import query
from bareboat.core import budget
from bareboat.kubelet import flags
from bareboat.proxy import about as proxy_about
from bareboat.workload import needs, quantities

if TYPE_CHECKING:
    # Each front door's own parts are loaded by the method that makes something of them: a proxy's process is to stay
    # small, and the node's parts alone take 5 MiB.
    from bareboat.node import decide, node_object
    from bareboat.provision import server as provision_server
    from bareboat.proxy import program as proxy_program

_LABEL_NAME = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Bad(ValueError):
    """Settings that make no sense: one line for each, all of them at once."""


class Node(flags.Flags):
    """The virtual node: its name, where it listens, what it offers to the scheduler."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="BAREBOAT_", populate_by_name=True, extra="ignore", validate_default=True
    )

    node_name: str = pydantic.Field(
        "vast-gpu-node-na-1",
        alias="NODENAME",
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description="Name of the Node object.",
    )
    address: str = pydantic.Field(
        "",
        validation_alias=pydantic.AliasChoices("BAREBOAT_ADDRESS", "VKUBELET_POD_IP", "POD_IP"),
        description="The IP at which the API server reaches this process; found out if empty.",
    )
    kubelet_port: int = pydantic.Field(
        10250, alias="KUBELET_PORT", ge=0, le=65535, description="Port of the kubelet API; 0 takes any free one."
    )
    clouds: str = pydantic.Field("vast", description="Clouds to rent from, comma-separated.")
    cluster_id: str = pydantic.Field(
        "", pattern=r"^[A-Za-z0-9.-]{0,64}$", description="In the mark of each instance; the kube-system uid if empty."
    )
    gpus: int = pydantic.Field(16, ge=0, le=100_000, description="nvidia.com/gpu that the node offers.")
    cpus: str = pydantic.Field("256", description="cpu that the node offers.")
    memory: str = pydantic.Field("2Ti", description="memory that the node offers.")
    storage: str = pydantic.Field("10Ti", description="ephemeral-storage that the node offers.")
    pods: int = pydantic.Field(110, ge=1, le=100_000, description="Pods that the node takes.")
    labels: str = pydantic.Field("", description="More labels of the Node: name=value,…")
    taint_key: str = pydantic.Field(
        "virtual-kubelet.io/provider", alias="VKUBELET_TAINT_KEY", description="Taint that keeps ordinary pods away."
    )
    taint_value: str = pydantic.Field("vast.ai", alias="VKUBELET_TAINT_VALUE", description="Its value.")
    taint_effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = pydantic.Field(
        "NoSchedule", alias="VKUBELET_TAINT_EFFECT", description="Its effect."
    )
    rent_for: Literal["all", "gpu"] = pydantic.Field(
        "all", description="gpu: only pods that ask for nvidia.com/gpu (or say so by annotation) rent."
    )
    lease_namespace: str = pydantic.Field(
        "kube-system", description="Where the lease lies that makes one process of a node the active one."
    )
    leader_election: bool = pydantic.Field(True, description="Wait as a standby while another process has the lease.")
    workers: int = pydantic.Field(32, ge=1, le=1000, description="Pods worked on at the same time.")
    certificate_file: Path | None = pydantic.Field(
        None, alias="APISERVER_CERT_LOCATION", description="Serving certificate; asked of the cluster if not set."
    )
    key_file: Path | None = pydantic.Field(None, alias="APISERVER_KEY_LOCATION", description="Its key.")
    approve_certificate: bool = pydantic.Field(
        True, description="Approve the own certificate request, after comparing names and requester."
    )
    client_ca_file: Path | None = pydantic.Field(
        None, alias="APISERVER_CA_CERT_LOCATION", description="CA of callers; the cluster's own if not set."
    )

    access: Literal["ssh", "plain"] = pydantic.Field(
        "ssh", description="How pods run that ask for neither way: ssh has every verb, plain is the cloud's own."
    )
    ssh_secret: str = pydantic.Field(
        "bareboat-ssh",
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description="Secret with the installation's ssh key, beside the lease; made if there is none.",
    )
    registry_mirrors: str = pydantic.Field(
        "", description="Where to ask for images instead: registry=URL,… (docker.io=https://…); * stands for every one."
    )

    @pydantic.field_validator("registry_mirrors")
    @classmethod
    def _are_mirrors(cls, value: str) -> str:
        for pair in filter(str.strip, value.split(",")):
            name, _, url = (part.strip() for part in pair.partition("="))
            if not name or urllib.parse.urlsplit(url).scheme not in ("http", "https"):
                raise ValueError(f"{pair.strip()!r} is no mirror; allowed are pairs such as docker.io=https://mirror")
        return value

    @pydantic.field_validator("cpus", "memory", "storage")
    @classmethod
    def _is_quantity(cls, value: str) -> str:
        quantities.parse(value)
        return value

    @pydantic.field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value)) if value else ""
        except ValueError:
            raise ValueError("allowed is an IPv4 or IPv6 address, or nothing") from None

    @pydantic.field_validator("labels")
    @classmethod
    def _are_labels(cls, value: str) -> str:
        for pair in filter(str.strip, value.split(",")):
            name, equals, text = (part.strip() for part in pair.partition("="))
            if not equals or not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(text):
                raise ValueError(f"{pair.strip()!r} is no label; allowed are pairs such as example.com/zone=eu-1")
        return value

    def capacity(self) -> dict[str, str]:
        return {
            "cpu": self.cpus,
            "memory": self.memory,
            "ephemeral-storage": self.storage,
            "pods": str(self.pods),
            needs.GPU_RESOURCE: str(self.gpus),
        }

    def mirrors(self) -> dict[str, str]:
        """Base URLs by registry."""
        pairs = [part.partition("=") for part in self.registry_mirrors.split(",") if part.strip()]
        return {name.strip(): url.strip() for name, _, url in pairs}

    def taint(self) -> "node_object.Taint":
        from bareboat.node import node_object

        return node_object.Taint(self.taint_key, self.taint_value, self.taint_effect)

    def extra_labels(self) -> dict[str, str]:
        pairs = [part.partition("=") for part in self.labels.split(",") if part.strip()]
        return {name.strip(): value.strip() for name, _, value in pairs}


class Renting(pydantic_settings.BaseSettings):
    """How long to wait for machines, and what may be spent."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="BAREBOAT_", extra="ignore", allow_inf_nan=False)

    max_usd_per_hour: float = pydantic.Field(1.0, gt=0, description="$/h for a pod that names no limit of its own.")
    pod_usd_per_hour_cap: float | None = pydantic.Field(None, gt=0, description="$/h that no pod gets past.")
    namespace_usd_per_hour_cap: float | None = pydantic.Field(None, gt=0, description="$/h of each namespace.")
    namespace_usd_cap: float | None = pydantic.Field(None, gt=0, description="$ in all of each namespace.")
    installation_usd_per_hour_cap: float | None = pydantic.Field(None, gt=0, description="$/h of everything.")
    installation_usd_cap: float | None = pydantic.Field(None, gt=0, description="$ in all of everything.")
    disk_gib: float = pydantic.Field(10.0, ge=1, description="Disk of a pod that asks for none.")
    verified_only: bool = pydantic.Field(True, description="Only hosts that the cloud has verified.")
    start_timeout_s: float = pydantic.Field(900.0, gt=0, description="A container not running by then is given up.")
    unreachable_timeout_s: float = pydantic.Field(600.0, gt=0, description="A silent host is given up after this.")
    guard_age_s: float = pydantic.Field(120.0, ge=0, description="An instance without owner is ended after this.")
    watch_idle_s: float = pydantic.Field(
        10.0, gt=0, description="For each call of a look at a cloud, when all is quiet."
    )
    watch_busy_s: float = pydantic.Field(2.0, gt=0, description="Between two looks while something starts or ends.")

    def defaults(self) -> needs.Defaults:
        return needs.Defaults(
            max_usd_per_hour=self.max_usd_per_hour,
            pod_cap_usd_per_hour=self.pod_usd_per_hour_cap,
            disk_gib=self.disk_gib,
            verified_only=self.verified_only,
        )

    def limits(self) -> budget.Limits:
        return budget.Limits(
            each_usd_per_hour=self.pod_usd_per_hour_cap,
            namespace=budget.Caps(self.namespace_usd_per_hour_cap, self.namespace_usd_cap),
            installation=budget.Caps(self.installation_usd_per_hour_cap, self.installation_usd_cap),
        )

    def policy(self, visibility_window_s: float) -> "decide.Policy":
        from bareboat.node import decide

        return decide.Policy(
            start_timeout_s=self.start_timeout_s,
            unreachable_timeout_s=self.unreachable_timeout_s,
            visibility_window_s=visibility_window_s,
        )


class Provision(pydantic_settings.BaseSettings):
    """The provisioning service: where it listens, where it works, whom it serves."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="PROVISION_", populate_by_name=True, extra="ignore", validate_default=True
    )

    host: str = pydantic.Field("0.0.0.0", alias="HOST", min_length=1, description="Address to listen on.")
    port: int = pydantic.Field(8088, alias="PORT", ge=0, le=65535, description="Port; 0 takes any free one.")
    namespace: str = pydantic.Field(
        "default",
        alias="NAMESPACE",
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        description="Namespace of what is provisioned.",
    )
    token: pydantic.SecretStr = pydantic.Field(
        pydantic.SecretStr(""), description="Bearer token that requests have to show; none if empty."
    )
    images: str = pydantic.Field(
        "", description="Images that may be run, comma-separated, `*` for anything; all if empty: docker.io/me/*."
    )
    max_body_bytes: int = pydantic.Field(65_536, ge=1024, le=10_000_000, description="Longest body of a request.")
    requests_per_minute: int = pydantic.Field(
        600, ge=0, le=1_000_000, description="Requests that one client address may send; 0 for no limit."
    )
    max_pods: int = pydantic.Field(
        0, ge=0, le=100_000, description="Clients in the namespace at the same time; 0 for no limit."
    )

    def server(self) -> "provision_server.Settings":
        from bareboat.provision import server as provision_server

        return provision_server.Settings(
            host=self.host,
            port=self.port,
            token=self.token.get_secret_value(),
            images=tuple(part.strip() for part in self.images.split(",") if part.strip()),
            max_body_bytes=self.max_body_bytes,
            requests_per_minute=self.requests_per_minute or None,
        )


class Proxy(pydantic_settings.BaseSettings):
    """The proxy in front of one Vast instance: which, from what, and how it is served."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="BAREBOAT_PROXY_", populate_by_name=True, extra="ignore", hide_input_in_errors=True
    )

    pod_name: str = pydantic.Field(
        alias="POD_NAME",
        pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,198}[A-Za-z0-9])?$",
        description="The pod's name; the instance carries the label k8s_pod=NAME.",
    )
    api_key: pydantic.SecretStr = pydantic.Field(
        alias="VAST_API_KEY", min_length=1, description="The account's key, from the page Keys of Vast's console."
    )
    template_name: str = pydantic.Field(
        # The documentation's text names it without the prefix of its table.
        validation_alias=pydantic.AliasChoices("VAST_TEMPLATE_NAME", "TEMPLATE_NAME"),
        min_length=1,
        description="Exact name of a template of the account.",
    )
    template_image: str = pydantic.Field(
        validation_alias=pydantic.AliasChoices("VAST_TEMPLATE_IMAGE", "TEMPLATE_IMAGE"),
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9._/:@]*$",
        max_length=1024,
        description="The image that the instance runs.",
    )
    docker_login: pydantic.SecretStr = pydantic.Field(
        alias="DOCKER_LOGIN", description="-u <user> -p <password> <host>, as for docker login."
    )
    search_query: str = pydantic.Field(
        alias="VAST_SEARCH_QUERY",
        min_length=1,
        description="Which offers may be rented, in Vast's search language or as its JSON.",
    )
    nginx_config_path: Path = pydantic.Field(
        Path("/etc/nginx/http.d/default.conf"), alias="NGINX_CONFIG_PATH", description="Where the configuration goes."
    )
    nginx_listen_port: int = pydantic.Field(
        3000, alias="NGINX_LISTEN_PORT", ge=1, le=65535, description="Port that nginx listens on."
    )
    nginx_max_body_size: str = pydantic.Field(
        "10M",
        alias="NGINX_MAX_BODY_SIZE",
        pattern=r"^[0-9]+[kKmMgG]?$",
        description="Longest body of a request: 512k, 10M, 1G; 0 for any.",
    )
    blacklist_enabled: bool = pydantic.Field(
        False, alias="BLACKLIST_ENABLED", description="Ban hosts whose instances don't come up, in Redis."
    )
    blacklist_redis_url: pydantic.SecretStr = pydantic.Field(
        pydantic.SecretStr("redis://redis:6379/10"),
        validation_alias=pydantic.AliasChoices("BLACKLIST_REDIS_URL", "BLACKLIST_REDIS"),
        description="The Redis that keeps the bans.",
    )
    blacklist_ban_after_seconds: float = pydantic.Field(
        1200, alias="BLACKLIST_BAN_AFTER_SECONDS", gt=0, description="A host not up by then is banned."
    )
    blacklist_ban_ttl_seconds: float = pydantic.Field(
        604_800, alias="BLACKLIST_BAN_TTL_SECONDS", ge=1, description="How long a host stays banned."
    )
    blacklist_restart_ttl_seconds: float = pydantic.Field(
        3600,
        alias="BLACKLIST_RESTART_TTL_SECONDS",
        ge=1,
        description="Restarts before a pause of so long don't count.",
    )
    blacklist_restart_threshold: int = pydantic.Field(
        5, alias="BLACKLIST_RESTART_THRESHOLD", ge=1, description="So many restarts within that time ban the host."
    )
    debug: bool = pydantic.Field(False, alias="DEBUG", description="Log more, nginx too.")
    cluster_id: str = pydantic.Field(
        "",
        alias="BAREBOAT_CLUSTER_ID",
        pattern=r"^[A-Za-z0-9.-]{0,64}$",
        description="Keeps pods of one name in several clusters apart that share an account.",
    )
    usd_per_hour_cap: float | None = pydantic.Field(
        None, alias="BAREBOAT_POD_USD_PER_HOUR_CAP", gt=0, description="$/h that no instance gets past."
    )
    upstream_port: int = pydantic.Field(
        0, ge=0, le=65535, description="Port inside the instance; 0 for the first that the template opens."
    )
    check_path: str = pydantic.Field(
        "",
        pattern=r"^(/.*)?$",
        description="Path that has to be answered without an error; empty: any answer.",
    )
    health_port: int = pydantic.Field(8081, ge=0, le=65535, description="Port of /healthz and /readyz.")
    listen_address: str = pydantic.Field("", description="Address of both ports; empty for all.")
    nginx: str = pydantic.Field("nginx", min_length=1, description="The nginx program.")
    site_template: Path | None = pydantic.Field(
        None, description="Jinja template of what nginx serves; a built-in one if not set."
    )
    main_template: Path | None = pydantic.Field(
        None, description="Jinja template of nginx's main file; a built-in one if not set."
    )
    state_dir: Path = pydantic.Field(
        Path("/tmp/bareboat-proxy"), description="A folder to write in; best one that survives the container."
    )
    poll_s: float = pydantic.Field(10.0, gt=0, description="Between two looks at the instance.")
    busy_poll_s: float = pydantic.Field(3.0, gt=0, description="The same while it starts or ends.")
    unreachable_s: float = pydantic.Field(60.0, gt=0, description="A host offline for so long is given up.")
    template_s: float = pydantic.Field(
        0.0, ge=0, description="How often the template is read again meanwhile; 0: at starts and rents alone."
    )
    drain_s: float = pydantic.Field(25.0, gt=0, description="Longest wait for requests under way at the end.")

    @pydantic.field_validator("docker_login")
    @classmethod
    def _login_is_one(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        proxy_about.docker_login(value.get_secret_value())
        return value

    @pydantic.field_validator("search_query")
    @classmethod
    def _query_is_one(cls, value: str) -> str:
        query.parse(value, defaults=True)
        return value

    @pydantic.field_validator("blacklist_redis_url")
    @classmethod
    def _url_is_one(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        if not re.match(r"(rediss?://[^\s/]+(/\d+)?|unix:///\S+)", value.get_secret_value()):
            raise ValueError("it has to be redis://HOST:PORT/NUMBER (rediss:// with TLS)")
        return value

    @pydantic.field_validator("listen_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return str(ipaddress.ip_address(value)) if value else ""

    def parsed_query(self) -> query.Parsed:
        return query.parse(self.search_query, defaults=True)

    def plan(self) -> "proxy_program.Plan":
        from bareboat.proxy import program as proxy_program

        banning = proxy_about.Banning(
            redis_url=self.blacklist_redis_url.get_secret_value(),
            ban_after_s=self.blacklist_ban_after_seconds,
            ban_ttl_s=self.blacklist_ban_ttl_seconds,
            restart_ttl_s=self.blacklist_restart_ttl_seconds,
            restart_threshold=self.blacklist_restart_threshold,
        )
        return proxy_program.Plan(
            about=proxy_about.About(
                pod_name=self.pod_name,
                template_name=self.template_name,
                image=self.template_image,
                login=proxy_about.docker_login(self.docker_login.get_secret_value()),
                query=self.parsed_query().query,
                upstream_port=self.upstream_port,
                cluster_id=self.cluster_id or proxy_about.UNNAMED_CLUSTER,
                cap_usd_per_hour=self.usd_per_hour_cap,
            ),
            site=proxy_about.Site(
                config_path=self.nginx_config_path,
                listen_port=self.nginx_listen_port,
                listen_address=self.listen_address,
                max_body_size=self.nginx_max_body_size,
                state_dir=self.state_dir,
                program=self.nginx,
                site_template=self.site_template,
                main_template=self.main_template,
                drain_s=self.drain_s,
                debug=self.debug,
            ),
            pace=proxy_about.Pace(
                poll_s=self.poll_s,
                busy_poll_s=self.busy_poll_s,
                unreachable_s=self.unreachable_s,
                template_s=self.template_s,
            ),
            banning=banning if self.blacklist_enabled else None,
            health_port=self.health_port,
            check_path=self.check_path,
        )


class Logging(pydantic_settings.BaseSettings):
    """How log lines look."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="BAREBOAT_", extra="ignore")

    log_format: Literal["text", "json"] = pydantic.Field("text", description="text for people, json for machines.")
    log_level: Literal["debug", "info", "warning", "error"] = pydantic.Field("info", description="The least told.")


def read(kind: type[Any], **flags: Any) -> Any:
    """A group of settings: flags that are not None, above the environment, above the file, above defaults.

    Raises `Bad` with a line for each field that makes no sense: its variable, its value, what is allowed.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    env_file = os.environ.get("BAREBOAT_ENV_FILE")
    if env_file and not Path(env_file).is_file():
        raise Bad(f"BAREBOAT_ENV_FILE is {env_file!r}: there is no such file")
    try:
        return kind(_env_file=env_file, **given)
    except pydantic.ValidationError as wrong:
        raise Bad("\n".join(_line(kind, error) for error in wrong.errors(include_url=False))) from None


def _line(kind: type[pydantic.BaseModel], error: Any) -> str:
    place = str(error["loc"][0]) if error["loc"] else kind.__name__
    field, name = _variable(kind, place)
    if error["type"] == "missing" and field is not None:
        return f"{name} is not set: {field.description}"
    secret = field is not None and "Secret" in str(field.annotation)
    value = "" if secret else f" is {str(error.get('input'))[:80]!r}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}{value}: {message[0].lower()}{message[1:]}"


def _variable(kind: type[pydantic.BaseModel], place: str) -> tuple[Any, str]:
    """The field that an error's place means (its name, or one of its variables), and the variable."""
    prefix = str(kind.model_config.get("env_prefix", ""))
    for name, field in kind.model_fields.items():
        also = getattr(field.validation_alias, "choices", ())
        if place in (name, field.alias, *also):
            return field, field.alias or str(next(iter(also), f"{prefix}{name}".upper()))
    return None, place


def own_address(server_host: str, server_port: int) -> str:
    """The address of this machine that a connection to the API server leaves from. Sends nothing."""
    family = socket.AF_INET6 if ":" in server_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((server_host, server_port))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
