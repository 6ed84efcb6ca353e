"""One rented container as its cloud tells of it, and the few states that matter to us."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from bareboat.core import labels


class State(Enum):
    """What a cloud's many words come down to.

    PROVISIONING  rented, nothing of the workload yet
    PULLING       the image is on its way
    STARTING      the container exists and is about to run
    RUNNING       the main process runs
    EXITED        the main process ended
    STOPPED       no process, disk kept and billed: by us, by a human, by being outbid or for want of credit
    UNREACHABLE   the cloud has lost touch with the host: alive or dead, nobody knows
    FAILED        it will not run by itself: image can't be pulled, container can't be created
    """

    PROVISIONING = "provisioning"
    PULLING = "pulling"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    STOPPED = "stopped"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


class Fault(Enum):
    """Why an instance is FAILED or STOPPED, as far as the cloud tells."""

    IMAGE_NOT_FOUND = "image-not-found"
    IMAGE_UNAUTHORIZED = "image-unauthorized"
    IMAGE_PULL = "image-pull"
    CREATE_FAILED = "create-failed"
    OUTBID = "outbid"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SshAddress:
    """Where an ssh server of an instance answers."""

    host: str
    port: int
    user: str = "root"


SETTLED = frozenset({State.RUNNING})
BOOTING = frozenset({State.PROVISIONING, State.PULLING, State.STARTING})


@dataclass(frozen=True, slots=True)
class Instance:
    """`usd_per_hour` is what the cloud charges now, disk included. `ports` maps (number, protocol) inside to the
    public number.

    `exit_code` is None where the cloud gives none. `label` is the cloud's label or name as it stands; `mark` is ours if
    the label is one. `ssh` are the addresses of its ssh server, the best first: empty in plain access, or while none is
    known; they may change in the life of an instance. `tags` are the variables `BAREBOAT_…` of its environment, where
    the cloud shows them.
    """

    cloud: str
    id: str
    state: State
    label: str | None = None
    message: str = ""
    fault: Fault | None = None
    machine_id: str | None = None
    host_id: str | None = None
    gpu_name: str | None = None
    gpu_count: int | None = None
    region: str | None = None
    address: str | None = None
    ports: Mapping[tuple[int, str], int] = field(default_factory=dict)
    usd_per_hour: float | None = None
    started_s: float | None = None
    exit_code: int | None = None
    image: str | None = None
    template: str | None = None
    ssh: tuple[SshAddress, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict, repr=False)
    raw: Any = field(default=None, compare=False, repr=False)

    @property
    def mark(self) -> labels.Mark | None:
        return labels.Mark.parse(self.label)


@dataclass(frozen=True, slots=True)
class Listing:
    """All instances of an account at one moment. A driver returns one only when it is complete."""

    instances: tuple[Instance, ...]
    taken_s: float


@dataclass(frozen=True, slots=True)
class Census:
    """A cheap look: how many instances the account has in all, and those that are not RUNNING, complete."""

    total: int
    unsettled: tuple[Instance, ...]
    taken_s: float
