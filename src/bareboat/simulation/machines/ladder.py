"""Which way of keeping machines apart works here: tried once at the start, with the real thing, best first."""

import errno
import json
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bareboat.simulation.machines import cgroups, ns, view

_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_PROBE_PLAN: view.Plan = {
    "root": "host",
    "disk_bytes": 1 << 20,
    "hostname": "probe",
    "os_release": "",
    "folders": [],
    "files": {},
    "python": "",
}


@dataclass(frozen=True, slots=True)
class Rung:
    """One way, and what it lacks, in sentences."""

    number: int
    sentence: str
    losses: tuple[str, ...] = ()
    user_namespace: bool = False
    full_ids: bool = False
    one_id: bool = False
    usr_writable: bool = True

    @property
    def kept_apart(self) -> bool:
        return self.number < 4

    def settings(self) -> dict[str, Any]:
        """What a machine's plan has to say of the rung."""
        return {
            "rung": self.number,
            "kept_apart": self.kept_apart,
            "user_namespace": self.user_namespace,
            "full_ids": self.full_ids,
        }


_AS_ROOT = (
    Rung(
        1,
        "Rung 1 of 4: each machine has files, processes, users and a network of its own; started by root.",
        user_namespace=True,
        full_ids=True,
    ),
    Rung(
        2,
        "Rung 2 of 4: each machine has files, processes and a network of its own; it shares users with this computer.",
        ("a workload that is root in its machine is root here: user namespaces are forbidden on this computer",),
    ),
)
_AS_USER = (
    Rung(
        3,
        "Rung 3 of 4: each machine has files, processes and a network of its own; started by an ordinary user.",
        user_namespace=True,
    ),
)
_ONE_ID = "every process of a machine is root in it: no other user exists there, and an image's USER is left out"
_NO_LIMIT = "memory limits are not enforced: this user may not make memory cgroups"
_USR = "/usr of a machine can't be changed by its workload; files that belong there are laid over it at the start"


def climb() -> Rung:
    """The best rung that carries. Takes some 10 ms a rung; the caller must be single-threaded."""
    reasons: list[str] = []
    for rung in _AS_ROOT if os.geteuid() == 0 else _AS_USER:
        try:
            usr_writable = _try(rung)
        except OSError as error:
            reasons.append(f"rung {rung.number} failed: {error.strerror}")
            continue
        losses = [*reasons, *rung.losses]
        one_id = rung.number == 3 or ns.ids_known() == 1
        if one_id:
            losses.append(_ONE_ID)
        if not usr_writable:
            losses.append(_USR)
        return replace(rung, losses=(*losses, *_memory()), one_id=one_id, usr_writable=usr_writable)
    return Rung(
        4,
        "Rung 4 of 4: machines are plain processes of this computer, in a private folder each.",
        (
            *reasons,
            *_remedies(),
            "machines share files, ports and processes with this computer: files meant for absolute paths lie under a"
            " folder of the machine's own, and two machines can't listen on one port",
            *_memory(),
        ),
        one_id=True,
    )


def _memory() -> tuple[str, ...]:
    group = cgroups.create(os.getpid(), "probe", 1 << 30)
    if group is None:
        return (_NO_LIMIT,)
    group.remove()
    return ()


def _remedies() -> tuple[str, ...]:
    if _APPARMOR.exists() and _APPARMOR.read_text().strip() == "1":
        return (
            "AppArmor takes the rights from user namespaces here; an administrator can lift that with"
            " `sysctl kernel.apparmor_restrict_unprivileged_userns=0` or a profile that allows userns",
        )
    return ()


def _try(rung: Rung) -> bool:
    """Makes a machine's namespaces and view as for a real one; says whether /usr can be written. Raises OSError."""
    go_read, go_write = os.pipe()
    outcome_read, outcome_write = os.pipe()
    pid = ns.clone(ns.ALL | (ns.NEWUSER if rung.user_namespace else 0))
    if pid == 0:
        os.close(go_write)
        ns.run_in_child(lambda: _build(go_read, outcome_write))
    os.close(go_read)
    os.close(outcome_write)
    try:
        if rung.user_namespace:
            ns.map_ids(pid, full=rung.full_ids)
        os.write(go_write, b"g")
    finally:
        os.close(go_write)
        said = os.read(outcome_read, 4096)
        os.close(outcome_read)
        os.waitpid(pid, 0)
    if not said:
        raise OSError(errno.EIO, "the trial machine ended without a word")
    answer = json.loads(said)
    if "error" in answer:
        raise OSError(answer["errno"], answer["error"])
    return bool(answer["usr_writable"])


def _build(go: int, outcome: int) -> None:
    if not os.read(go, 1):
        return
    try:
        os.setgid(0)
        os.setuid(0)
        socket.sethostname("probe")
        ns.loopback_up()
        answer: dict[str, Any] = {"usr_writable": view.build(_PROBE_PLAN)}
    except OSError as error:
        answer = {"error": error.strerror or str(error), "errno": error.errno or errno.EIO}
    os.write(outcome, json.dumps(answer).encode())
