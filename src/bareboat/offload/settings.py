"""Everything that can be set about which Jobs leave; what is rented for them is the node's and the clouds' settings."""

import re
from typing import Literal

import pydantic
import pydantic_settings

from bareboat.offload import health, policy, selectors

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[0-9A-Za-z_.-]*):([0-9]{1,5})")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DOLLARS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


class Offload(pydantic_settings.BaseSettings):
    """Which Jobs leave, when, and at what price."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="BAREBOAT_OFFLOAD_", extra="ignore", allow_inf_nan=False, validate_default=True
    )

    reconcile_interval: float = pydantic.Field(
        30.0, gt=0, le=86_400, description="Longest pause in seconds between two looks; changes are seen at once."
    )
    pending_job_threshold: int = pydantic.Field(
        1, ge=0, le=1_000_000, description="So many pending Jobs may wait; those beyond leave."
    )
    max_pending_time: float = pydantic.Field(
        0.0, ge=0, le=31_536_000, description="Seconds that a Job may be pending before it leaves."
    )
    max_gpu_price: float = pydantic.Field(
        0.5, gt=0, le=1000, description="Most US dollars an hour that a pod sent out may cost, disk included."
    )
    health_server_address: str = pydantic.Field(":8080", description="Where /healthz and /readyz are served.")
    order: Literal["oldest", "newest", "fewest-gpus"] = pydantic.Field(
        "oldest", description="Who leaves first where not all can."
    )
    selector: str = pydantic.Field("", description="Labels of Jobs that may leave, as for kubectl -l; all if empty.")
    namespaces: str = pydantic.Field("", description="Namespaces whose Jobs may leave, comma-separated; all if empty.")
    max_pods: int | None = pydantic.Field(None, ge=0, description="Pods that may be out at one time.")
    max_pods_per_namespace: int | None = pydantic.Field(None, ge=0, description="Likewise of each namespace.")
    budgets: str = pydantic.Field(
        "", description="Dollars an hour for what is out of a namespace: team-a=2.5,*=1 (* stands for each other one)."
    )
    cloud: str = pydantic.Field(
        "cheapest",
        pattern=r"^[a-z0-9]+(,[a-z0-9]+)*$",
        description="cheapest, or the clouds alone that pods are sent to which name none.",
    )

    @pydantic.field_validator("health_server_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        match = _ADDRESS.fullmatch(value.strip())
        if match is None or int(match[2]) > 65535:
            raise ValueError("allowed is HOST:PORT, or :PORT for all addresses")
        return value.strip()

    @pydantic.field_validator("selector")
    @classmethod
    def _is_selector(cls, value: str) -> str:
        selectors.parse(value)
        return value

    @pydantic.field_validator("namespaces")
    @classmethod
    def _are_namespaces(cls, value: str) -> str:
        for name in _words(value):
            if not _NAMESPACE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a namespace")
        return value

    @pydantic.field_validator("budgets")
    @classmethod
    def _are_budgets(cls, value: str) -> str:
        for pair in _words(value):
            name, _, dollars = (part.strip() for part in pair.partition("="))
            if not (name == "*" or _NAMESPACE.fullmatch(name)) or not _DOLLARS.fullmatch(dollars):
                raise ValueError(f"{pair!r} is no budget; allowed are pairs such as team-a=2.5 or *=1")
        return value

    def health_address(self) -> health.Address:
        host, _, port = self.health_server_address.rpartition(":")
        return health.Address(host.strip("[]"), int(port))

    def rules(self) -> policy.Rules:
        pairs = [pair.partition("=") for pair in _words(self.budgets)]
        return policy.Rules(
            max_pending_s=self.max_pending_time,
            pending_job_threshold=self.pending_job_threshold,
            max_usd_per_hour=self.max_gpu_price,
            order=policy.Order(self.order),
            clouds=() if self.cloud == "cheapest" else tuple(self.cloud.split(",")),
            selector=selectors.parse(self.selector),
            namespaces=frozenset(_words(self.namespaces)),
            most_pods=self.max_pods,
            most_pods_per_namespace=self.max_pods_per_namespace,
            usd_per_hour_by_namespace={name.strip(): float(dollars) for name, _, dollars in pairs},
        )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
