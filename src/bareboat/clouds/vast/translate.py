"""From Vast's records to our words: pure, total over whatever `wire` lets through."""

import re
from collections.abc import Mapping
from typing import Any

from bareboat.clouds.vast import failures, regions, wire
from bareboat.core import instances, launches, offers

CLOUD = failures.CLOUD
_MIB_PER_GIB = 1024

_FAULTS: tuple[tuple[re.Pattern[str], instances.Fault], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), fault)
    for pattern, fault in (
        (r": OCI runtime create failed:", instances.Fault.CREATE_FAILED),
        (r"unauthorized: |authentication required|401 unauthorized", instances.Fault.IMAGE_UNAUTHORIZED),
        (r"pull access denied|requested access to the resource is denied", instances.Fault.IMAGE_UNAUTHORIZED),
        (r"manifest unknown|repository does not exist|no matching manifest", instances.Fault.IMAGE_NOT_FOUND),
        (r"failed to resolve reference.*not found", instances.Fault.IMAGE_NOT_FOUND),
        (r"failed to resolve reference|failed to register layer|toomanyrequests", instances.Fault.IMAGE_PULL),
    )
)
# The daemon's word while there is no container yet; not an error of the workload.
_NOT_YET = re.compile(r"No such container|logs/\S*: No such file or directory")
_PORT_FLAG = re.compile(r"(?:^|\s)-p\s*(?:\d+:)?(\d+)(?:/(tcp|udp))?(?=\s|$)")
_ERROR = re.compile(r"\bError\b")

_STATES = {
    "": instances.State.PROVISIONING,
    "loading": instances.State.PULLING,
    "recycling": instances.State.PULLING,
    "created": instances.State.STARTING,
    "restarting": instances.State.STARTING,
    "rebooting": instances.State.STARTING,
    "running": instances.State.RUNNING,
    "exited": instances.State.EXITED,
    "stopped": instances.State.STOPPED,
    "frozen": instances.State.STOPPED,
    "destroying": instances.State.STOPPED,
    "unknown": instances.State.UNREACHABLE,
    "offline": instances.State.UNREACHABLE,
}
_MAY_HOLD_FAULT = frozenset({"", "loading", "created", "restarting", "rebooting", "recycling"})


def offer(ask: wire.Ask) -> offers.Offer | None:
    """None when the record lacks what it takes to rent it: an id, a price, a GPU.

    In a search for bids all of Vast's prices follow the lowest bid: `usd_per_hour` is that bid too then.
    """
    ask_id = ask.ask_contract_id if ask.ask_contract_id is not None else ask.id
    usd_per_hour = _compute_price(ask)
    if ask_id is None or usd_per_hour is None or not ask.gpu_name or not ask.num_gpus or ask.num_gpus < 1:
        return None
    return offers.Offer(
        cloud=CLOUD,
        id=str(ask_id),
        gpu_name=ask.gpu_name,
        gpu_count=int(ask.num_gpus),
        usd_per_hour=usd_per_hour,
        gpu_memory_gib=_gpu_memory_gib(ask.gpu_ram),
        machine_id=_text(ask.machine_id),
        host_id=_text(ask.host_id),
        spot_usd_per_hour=_positive(ask.min_bid),
        usd_per_gib_month=max(0.0, ask.storage_cost or 0.0),
        cpu_cores=_cores(ask),
        memory_gib=_memory_gib(ask),
        disk_gib=ask.disk_space,
        region=regions.normalised(ask.geolocation),
        reliability=ask.reliability2 if ask.reliability2 is not None else ask.reliability,
        verified=(ask.verification or "").lower() == "verified",
        datacenter=ask.hosting_type == 1,
        inet_up_mbps=ask.inet_up,
        inet_down_mbps=ask.inet_down,
        usd_per_gb_up=ask.inet_up_cost,
        usd_per_gb_down=ask.inet_down_cost,
        cuda=ask.cuda_max_good,
        performance=ask.dlperf,
        ports=None if ask.direct_port_count is None else max(0, int(ask.direct_port_count)),
        static_ip=bool(ask.static_ip),
        address=_address(ask.public_ipaddr),
        duration_s=ask.duration,
        raw=ask,
    )


def instance(rental: wire.Rental) -> instances.Instance:
    """Raises `wire.Nonsense` when the record has no id: nothing could be said of it."""
    if rental.id is None:
        raise wire.Nonsense("an instance without an id")
    state, fault, message = state_of(rental)
    tags, ports = _tags(rental.extra_env), ports_of(rental.ports)
    rental.extra_env = None  # the workload's secrets are in it: nothing of them is kept
    return instances.Instance(
        cloud=CLOUD,
        id=str(rental.id),
        state=state,
        label=None if rental.label is None else str(rental.label),
        message=message,
        fault=fault,
        machine_id=_text(rental.machine_id),
        host_id=_text(rental.host_id),
        gpu_name=rental.gpu_name,
        gpu_count=None if rental.num_gpus is None else int(rental.num_gpus),
        region=regions.normalised(rental.geolocation, rental.country_code),
        address=_address(rental.public_ipaddr),
        ports=ports,
        # What it costs while it runs. The record's own "price now" leaves the GPU out until then: it'd pass any cap.
        usd_per_hour=rental.dph_total if rental.dph_total is not None else rental.dph_base,
        started_s=rental.start_date,
        image=rental.image_uuid,
        template=rental.template_hash_id,
        ssh=_ssh(rental, ports),
        tags=tags,
        raw=rental,
    )


def state_of(rental: wire.Rental) -> tuple[instances.State, instances.Fault | None, str]:
    """State, fault and a message for people, from the four status words and the text beside them.

    Contract and container disagree at times. A contract that is stopped in all three words is stopped, whatever the
    container still says; for a bid that is how being outbid looks. A start that waits for its GPU leaves the container
    exited under a contract that wants to run: that is stopped too, not the end of the workload.
    """
    actual = _word(rental.actual_status)
    message = (rental.status_msg or "").strip()
    intended, current, following = map(_word, (rental.intended_status, rental.cur_state, rental.next_state))
    if intended == current == following == "stopped":
        outbid = instances.Fault.OUTBID if rental.is_bid else None
        return instances.State.STOPPED, outbid, message
    fault = _fault(actual, message)
    if fault is not None:
        return instances.State.FAILED, fault, message
    if actual in ("exited", "stopped"):
        if intended == "running" and current == "stopped":
            return instances.State.STOPPED, None, message or "its start waits until the GPU is free"
        if "stopped" in (intended, current):
            return instances.State.STOPPED, None, message
    state = _STATES.get(actual)
    if state is None:
        return (
            instances.State.UNREACHABLE,
            None,
            f"Vast calls its status {actual!r}, a word not known here. {message}".strip(),
        )
    return state, None, message


def _ssh(rental: wire.Rental, ports: Mapping[tuple[int, str], int]) -> tuple[instances.SshAddress, ...]:
    """The mapped port 22 first, then Vast's proxy: either is broken at times. A proxy is told of in every mode, and
    serves but ssh and jupyter, the latter on the next port."""
    mode = _word(rental.image_runtype)
    if "ssh" not in mode and "jupyter" not in mode:
        return ()
    found = []
    direct, address = ports.get((22, "TCP")), _address(rental.public_ipaddr)
    if direct is not None and address is not None:
        found.append(instances.SshAddress(address, direct))
    proxy = (rental.ssh_host or "").strip()
    port = None if rental.ssh_port is None else rental.ssh_port + ("jupyter" in mode)
    if proxy and port is not None and 0 < port < 65536:
        found.append(instances.SshAddress(proxy, port))
    return tuple(found)


def ports_of(told: Any) -> dict[tuple[int, str], int]:
    """(inside, protocol) → public. Entries that are no mapping are left out; null, a list, anything else means none."""
    ports: dict[tuple[int, str], int] = {}
    if not isinstance(told, Mapping):
        return ports
    for inside, bindings in told.items():
        number, _, protocol = str(inside).partition("/")
        public = _public_port(bindings)
        if number.isdigit() and public is not None:
            ports[int(number), (protocol or "tcp").upper()] = public
    return ports


def template(record: wire.Template, user_id: int | None) -> launches.Template:
    """`record` has an id and a hash. Without a `user_id`, what is private is taken for the account's own: others' is
    not shown."""
    tagged = f"{record.image}:{record.tag}" if record.image and record.tag else record.image
    own = record.private if user_id is None or record.creator_id is None else record.creator_id == user_id
    return launches.Template(
        id=str(record.id),
        hash=str(record.hash_id),
        name=record.name or "",
        own=own,
        created_s=record.created_at,
        image=tagged or None,
        ports=_template_ports(record.env or ""),
        disk_gib=record.recommended_disk_space or 0.0,
    )


def _template_ports(flags: str) -> tuple[launches.Port, ...]:
    """The container's side of each `-p` of docker flags, in their order."""
    found: dict[launches.Port, None] = {}
    for number, protocol in _PORT_FLAG.findall(flags):
        found[launches.Port(int(number), (protocol or "tcp").upper())] = None
    return tuple(found)


def _tags(extra_env: Any) -> dict[str, str]:
    """Pairs, or an object: both have been seen."""
    pairs = extra_env.items() if isinstance(extra_env, Mapping) else extra_env if isinstance(extra_env, list) else ()
    return {
        str(pair[0]): str(pair[1])
        for pair in pairs
        if isinstance(pair, list | tuple) and len(pair) == 2 and str(pair[0]).startswith("BAREBOAT_")
    }


def _public_port(bindings: Any) -> int | None:
    for binding in bindings if isinstance(bindings, list) else ():
        public = binding.get("HostPort") if isinstance(binding, Mapping) else None
        if str(public).isdigit() and 0 < int(str(public)) < 65536:
            return int(str(public))
    return None


def _fault(actual: str, message: str) -> instances.Fault | None:
    if not message or (actual not in _MAY_HOLD_FAULT and actual != "exited"):
        return None
    for pattern, fault in _FAULTS:
        if pattern.search(message) and (actual != "exited" or fault is instances.Fault.CREATE_FAILED):
            return fault
    if actual != "exited" and _ERROR.search(message) and not _NOT_YET.search(message):
        return instances.Fault.OTHER
    return None


def _compute_price(ask: wire.Ask) -> float | None:
    if ask.dph_base is not None:
        return _positive(ask.dph_base)
    if ask.dph_total is None:
        return None
    return _positive(ask.dph_total - (ask.storage_total_cost or 0.0))


def _gpu_memory_gib(mib: float | None) -> float | None:
    # Cards report a little less than their name says (24564 MiB for 24 GiB): users ask for what the name says.
    return None if not mib or mib <= 0 else float(max(1, round(mib / _MIB_PER_GIB)))


def _cores(ask: wire.Ask) -> float | None:
    if ask.cpu_cores_effective:
        return ask.cpu_cores_effective
    return ask.cpu_cores * ask.gpu_frac if ask.cpu_cores and ask.gpu_frac else None


def _memory_gib(ask: wire.Ask) -> float | None:
    if not ask.cpu_ram:
        return None
    # cpu_ram is that of the whole machine; cpu_cores is null or 0 at times.
    share = ask.cpu_cores_effective / ask.cpu_cores if ask.cpu_cores and ask.cpu_cores_effective else ask.gpu_frac
    return None if share is None else ask.cpu_ram * min(1.0, share) / _MIB_PER_GIB


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _word(value: str | None) -> str:
    return (value or "").strip().lower()


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)


def _address(value: str | None) -> str | None:
    return (value or "").strip() or None


def log_text(text: str, tail: int | None) -> str:
    """The newest lines; empty where the text is the daemon's word that there is no container yet."""
    lines = text.splitlines()
    if len(lines) <= 2 and _NOT_YET.search(text):
        return ""
    kept = lines if tail is None else lines[-tail:]
    return "".join(f"{line}\n" for line in kept)
