"""From what was asked for to what the zygote is told: ports bound, files gathered, environment and command settled."""

import base64
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bareboat.simulation.machines import machine, nvidia

LOOPBACK = "127.0.0.1"
SSH_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
AUTHORIZED_KEYS = "/root/.ssh/authorized_keys"
_SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_FAMILIES = ("alpine", "busybox", "ubuntu", "debian")


@dataclass(frozen=True, slots=True)
class Host:
    """What this computer has to offer to machines."""

    kept_apart: bool = True
    one_id: bool = False
    usr_writable: bool = True
    python: str = ""
    busybox: str = ""
    folder: Path = field(default_factory=Path)


@dataclass(frozen=True, slots=True)
class Bound:
    """Listening sockets and their targets. `asked` is keyed as the spec has it, `host_ports` as in the machine."""

    asked: dict[machine.Port, int]
    host_ports: dict[machine.Port, int]
    listeners: list[socket.socket]
    targets: list[int]


def look_around(folder: Path, report: Mapping[str, Any]) -> Host:
    """Once per set of machines: the Python and the busybox they can have, and the ladder's report."""
    python = "" if any(Path(path).exists() for path in _SYSTEM_PYTHONS) else sys.base_prefix
    return Host(
        kept_apart=report["number"] < 4,
        one_id=report["one_id"],
        usr_writable=report["usr_writable"],
        python=python,
        busybox=_busybox_tree(folder),
        folder=folder,
    )


def _busybox_tree(folder: Path) -> str:
    """A folder with a static busybox and its applets; empty when there is none on this computer."""
    program = shutil.which("busybox")
    if program is None or b"/ld-" in Path(program).read_bytes()[:4096]:
        return ""
    tree = folder / "busybox"
    (tree / "bin").mkdir(parents=True, exist_ok=True)
    for name in ("etc", "usr/bin", "sbin", "dev", "proc", "sys"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, tree / "bin" / "busybox")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, timeout=10, check=False).stdout
    for name in applets.split():
        if name != "busybox":
            with contextlib.suppress(FileExistsError):
                (tree / "bin" / name).symlink_to("busybox")
    return str(tree)


def bind(ports: Sequence[machine.Port], closing: contextlib.ExitStack) -> Bound:
    """A free port of the loopback address for each; the sockets close with `closing`. UDP ones are only reserved."""
    bound = Bound({}, {}, [], [])
    for number, protocol in dict.fromkeys(ports):
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        sock = closing.enter_context(socket.socket(socket.AF_INET, kind))
        sock.bind((LOOPBACK, 0))
        host_port = sock.getsockname()[1]
        inside = host_port if number >= machine.IDENTITY_PORT else number
        bound.asked[number, protocol] = host_port
        bound.host_ports[inside, protocol] = host_port
        if kind == socket.SOCK_STREAM:
            sock.listen(1024)
            bound.listeners.append(sock)
            bound.targets.append(inside)
    return bound


def plan(spec: machine.MachineSpec, bound: Bound, log_path: Path, host: Host, number: int) -> dict[str, Any]:
    """Everything the monitor needs to know, fit for JSON."""
    env = {**spec.image.env, **spec.env, **spec.env_of_ports(bound.asked)}
    if host.python:
        env["PATH"] = f"{env.get('PATH', os.defpath)}:/opt/sim/bin"
    env.setdefault("HOSTNAME", spec.hostname)
    own_root = "" if host.kept_apart else str(host.folder / f"machine-{number}")
    workdir = own_root or spec.workdir or spec.image.workdir or "/"
    return {
        "argv": spec.argv(),
        "env": env,
        "workdir": workdir,
        "user": "" if host.one_id else (spec.user if spec.user is not None else spec.image.user),
        "hostname": spec.hostname[:63],
        "os_release": _os_release(spec.image.name),
        "root": host.busybox if spec.image.root == "busybox" and host.busybox else "host",
        "python": host.python if spec.image.root == "host" or not host.busybox else "",
        "disk_bytes": int(spec.disk_gib * 2**30),
        "memory_bytes": (spec.memory_mib or 0) * 2**20,
        "folders": list(spec.image.folders),
        "files": {path: [base64.b64encode(content).decode(), mode] for path, (content, mode) in _files(spec, host)},
        "log_path": str(log_path),
        "ports": bound.targets,
        "ssh": _ssh(spec.ssh, own_root) if spec.ssh is not None else None,
    }


def _ssh(asked: machine.Ssh, own_root: str) -> dict[str, Any]:
    return {
        "root": own_root,
        "port": asked.port,
        "is_open": asked.opens_after_s <= 0,
        "sftp": asked.sftp,
        "banner": asked.banner,
        "motd": asked.motd,
        "tmux": asked.tmux,
        "max_sessions": asked.max_sessions,
        "accept_env": list(asked.accept_env),
    }


def ports(spec: machine.MachineSpec) -> list[machine.Port]:
    """What is asked for, with the ssh server's."""
    return [*spec.ports, *([(spec.ssh.port, "tcp")] if spec.ssh is not None else [])]


def wire(files: Mapping[str, machine.File]) -> dict[str, list[Any]]:
    """Files as the monitor takes them."""
    return {path: [base64.b64encode(file.content).decode(), file.mode] for path, file in files.items()}


def _files(spec: machine.MachineSpec, host: Host) -> list[tuple[str, tuple[bytes, int]]]:
    found: dict[str, tuple[bytes, int]] = {
        path: (text.encode(), 0o755 if text.startswith("#!") else 0o644) for path, text in spec.image.files.items()
    }
    if spec.gpu is not None:
        # A folder of few entries where it has to be laid over the host's.
        path = "/usr/bin/nvidia-smi" if host.usr_writable else "/usr/local/bin/nvidia-smi"
        found[path] = (nvidia.script(spec.gpu).encode(), 0o755)
    if spec.ssh is not None:
        keys = "".join(f"{key.strip()}\n" for key in spec.ssh.authorized_keys)
        found[SSH_HOST_KEY] = (spec.ssh.host_key.encode(), 0o600)
        found[AUTHORIZED_KEYS if host.kept_apart else "/.ssh/authorized_keys"] = (keys.encode(), 0o600)
    found |= {path: (file.content, file.mode) for path, file in spec.files.items()}
    return list(found.items())


def _os_release(name: str) -> str:
    family = next((family for family in _FAMILIES if name.startswith(family)), "debian")
    return f'NAME="{family}"\nID={family}\nPRETTY_NAME="{name} (simulated)"\n'
