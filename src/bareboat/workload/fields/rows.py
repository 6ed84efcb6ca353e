"""What a row of the field table is. Pure shapes, no content."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from bareboat.workload import pod as pods

# Where in the pod (`spec.containers[0].tty`), and what stands there if that matters.
Hit = tuple[str, str]


class Access(StrEnum):
    """How a pod is run. SSH: a runner beside its processes. PLAIN: the cloud alone."""

    SSH = "ssh"
    PLAIN = "plain"


BOTH = frozenset(Access)
PLAIN = frozenset({Access.PLAIN})
SSH = frozenset({Access.SSH})


class Verdict(StrEnum):
    """HONOURED: as a kubelet does. EMULATED: the same to the workload, by other means. LEFT_OUT: the pod runs without
    it. REJECTED: the pod rents nothing."""

    HONOURED = "honoured"
    EMULATED = "emulated"
    LEFT_OUT = "left out"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is said when something in a pod can't be honoured. `field` is where, for people (`[*]` stands for any
    index); `{value}` in `why` is what was found. With `fatal` nothing is rented; else an Event tells it once."""

    field: str
    why: str
    fatal: bool
    hits: Callable[[pods.Pod], Iterable[Hit]]
    access: frozenset[Access] = BOTH
    unless_addressed: bool = False
    """Not where the pod has an address that is true."""


@dataclass(frozen=True, slots=True)
class Handling:
    """What becomes of a field by itself; `how` is a sentence without a full stop, or empty."""

    verdict: Verdict
    how: str = ""


HONOURED = Handling(Verdict.HONOURED)


def honoured(how: str) -> Handling:
    return Handling(Verdict.HONOURED, how)


def emulated(how: str) -> Handling:
    return Handling(Verdict.EMULATED, how)


def left_out(how: str) -> Handling:
    return Handling(Verdict.LEFT_OUT, how)


def rejected(how: str) -> Handling:
    return Handling(Verdict.REJECTED, how)


@dataclass(frozen=True, slots=True)
class Row:
    """One field of one kind of the API's description, such as `tty` of `Container`. `rules` are what the code says
    of values that are handled otherwise than `plain` and `ssh` say of the field."""

    kind: str
    field: str
    plain: Handling
    ssh: Handling
    rules: tuple[Rule, ...] = ()

    def handling(self, access: Access) -> Handling:
        return self.ssh if access is Access.SSH else self.plain


def row(kind: str, field: str, plain: Handling, ssh: Handling | None = None, *rules: Rule) -> Row:
    """`ssh` is as `plain` where it is None."""
    return Row(kind, field, plain, plain if ssh is None else ssh, rules)


def all_of(kind: str, fields: str, plain: Handling, ssh: Handling | None = None) -> tuple[Row, ...]:
    """Fields of a kind that fare alike; `fields` are their names with spaces between."""
    return tuple(row(kind, field, plain, ssh) for field in fields.split())
