"""What is sent to a cloud for a pod. Pure."""

import shlex
from collections.abc import Mapping

from bareboat.core import launches, needs, offers
from bareboat.workload import annotations, exit_codes, probing, runpod_asks
from bareboat.workload import pod as pods

BID_HEADROOM = 1.15


def reports_exit_code(pod: pods.Pod) -> bool:
    """Whether the pod's command is wrapped so that its exit code is known (it needs a command to wrap)."""
    off = annotations.Annotations(pod.metadata.annotations).choice(
        annotations.EXIT_CODE, {"off": "off", "false": "off", "on": "on", "true": "on"}
    )
    return bool(pod.spec.containers[0].command) and off != "off"


def build(
    pod: pods.Pod,
    *,
    command: tuple[str, ...],
    args: tuple[str, ...],
    env: Mapping[str, str],
    login: launches.RegistryLogin | None,
    wanted: needs.Needs,
    offer: offers.Offer,
    attempt: str,
) -> launches.Launch:
    """`command` and `args` are the container's with references expanded, empty where the image decides."""
    container = pod.spec.containers[0]
    asks = runpod_asks.read(pod.metadata.annotations)
    if reports_exit_code(pod):
        if container.working_dir:
            command = ("/bin/sh", "-c", f'cd -- {shlex.quote(container.working_dir)} && exec "$@"', "sh", *command)
        command, args = exit_codes.wrap(command, args, attempt, pod.metadata.uid)
    return launches.Launch(
        image=container.image,
        command=command or None,
        args=args or None,
        env=dict(env),
        ports=tuple(dict.fromkeys((*declared_ports(pod), *probing.ports(pod)))),
        disk_gib=wanted.disk_gib,
        registry_login=login,
        hostname=pod.spec.hostname or pod.metadata.name[:63],
        pricing=wanted.pricing,
        bid_usd_per_hour=bid(offer, wanted),
        template=asks.template,
        registry_auth_id=asks.registry_auth_id,
    )


def build_for_ssh(
    pod: pods.Pod,
    *,
    login: launches.RegistryLogin | None,
    wanted: needs.Needs,
    offer: offers.Offer,
    public_keys: tuple[str, ...],
) -> launches.Launch:
    """A machine of the pod's image with an ssh server and nothing of the workload: that follows over ssh."""
    asks = runpod_asks.read(pod.metadata.annotations)
    return launches.Launch(
        image=pod.spec.containers[0].image,
        ports=declared_ports(pod),
        disk_gib=wanted.disk_gib,
        registry_login=login,
        hostname=pod.spec.hostname or pod.metadata.name[:63],
        pricing=wanted.pricing,
        bid_usd_per_hour=bid(offer, wanted),
        ssh_public_keys=public_keys,
        template=asks.template,
        registry_auth_id=asks.registry_auth_id,
    )


def declared_ports(pod: pods.Pod) -> tuple[launches.Port, ...]:
    """The containers' ports, in order, and those that an annotation adds; of one number, what the annotation says."""
    asked = {port.number: port for port in runpod_asks.read(pod.metadata.annotations).ports}
    several = (port for container in pod.spec.containers for port in container.ports)
    own = (launches.Port(port.container_port, port.protocol or "TCP") for port in several)
    return tuple(dict.fromkeys((*(asked.get(port.number, port) for port in own), *asked.values())))


def bid(offer: offers.Offer, wanted: needs.Needs) -> float | None:
    """A bid a little over the lowest that wins now, within the pod's limit; None for on-demand."""
    if wanted.pricing is not needs.Pricing.SPOT or offer.spot_usd_per_hour is None:
        return None
    most = offer.spot_usd_per_hour * BID_HEADROOM
    if wanted.max_usd_per_hour is not None:
        disk = offer.usd_per_gib_month * wanted.disk_gib / offers.HOURS_PER_MONTH
        most = min(most, wanted.max_usd_per_hour - disk)
    return round(max(most, offer.spot_usd_per_hour), 4)
