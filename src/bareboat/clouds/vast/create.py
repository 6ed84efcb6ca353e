"""From a launch to the body of a rent call, with every limit that Vast documents checked before money is at stake.

A launch that can't be sent is `LaunchRefused` with a sentence; nothing is cut, dropped or escaped in silence.
"""

import re
from typing import Any

from bareboat.clouds.vast import failures
from bareboat.core import errors, labels, launches, needs

MIN_DISK_GB = 8.0
MAX_COMMAND_CHARS = 4096
MAX_ENV_CHARS = 32768
MAX_IMAGE_CHARS = 1024
MAX_LABEL_CHARS = 256
MAX_PORTS = 64
BID_USD_PER_HOUR = (0.001, 128.0)

_BLANK = re.compile(r"\s")
# onstart is one string that becomes the entrypoint. Nothing says how it is split: only what can't be goes there.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
_EXEC_REST = 'exec "$0" "$@"'


def body(launch: launches.Launch, mark: labels.Mark | str) -> dict[str, Any]:
    """The whole body. With a template, what the launch leaves out comes from there: image, mode, command, disk."""
    label = str(mark)
    if len(label) > MAX_LABEL_CHARS:
        raise _refused(f"the label {label!r} has {len(label)} characters; Vast takes {MAX_LABEL_CHARS}")
    told: dict[str, Any] = {
        "client_id": "me",
        "label": label,
        "env": _env(launch),
        # Without it a launch that can't start is left behind stopped, and bills its disk.
        "cancel_unavail": True,
        "target_state": "running",
    }
    if launch.template is not None:
        told["template_hash_id"] = launch.template
    if launch.disk_gib > 0 or launch.template is None:
        told["disk"] = max(MIN_DISK_GB, launch.disk_gib)
    if launch.image or launch.template is None:
        told["image"] = image(launch.image)
    if launch.ssh_public_keys:
        told |= {"runtype": "ssh_direct", "onstart": _admit(launch.ssh_public_keys)}
    else:
        command = _command(launch)
        if command or launch.template is None:
            told["runtype"] = "args"
        told.update(command)
    if launch.registry_login is not None:
        told["image_login"] = _login(launch.registry_login)
    if launch.pricing is needs.Pricing.SPOT:
        told["price"] = _bid(launch.bid_usd_per_hour)
    return told


def image(name: str) -> str:
    """The image with a tag: one without would be answered with a server error."""
    name = name.strip()
    if not name or _BLANK.search(name):
        raise _refused(f"the image {name!r} is no image name")
    last = name.rsplit("/", 1)[-1]
    whole = name if "@" in last or ":" in last else f"{name}:latest"
    if len(whole) > MAX_IMAGE_CHARS:
        raise _refused(f"the image name has {len(whole)} characters; Vast takes {MAX_IMAGE_CHARS}")
    return whole


def _admit(public_keys: tuple[str, ...]) -> str:
    """The script of an instance in ssh mode, which is told to others as all else is: public keys and no more.

    A rent call has no field for keys, and a key attached afterwards would be a second call that may fail, for a machine
    that is paid already. Without the file, tmux takes the screen of every shell.
    """
    lines = ["umask 077", "mkdir -p /root/.ssh", "touch /root/.no_auto_tmux"]
    lines += [f"echo '{key.strip()}' >> /root/.ssh/authorized_keys" for key in public_keys]
    script = "\n".join(lines)
    if len(script) > MAX_COMMAND_CHARS:
        raise _refused(f"{len(public_keys)} ssh keys make a script of {len(script)} characters; Vast takes 4096")
    return script


def _command(launch: launches.Launch) -> dict[str, Any]:
    """`onstart` (in args mode the entrypoint) and `args` (the CMD).

    As for docker, an entrypoint that is replaced takes the image's CMD away with it. A first word that could be split
    or unquoted on its way is run by /bin/sh instead, which the image must have then.
    """
    command, args = launch.command or (), launch.args or ()
    if not command:
        told: dict[str, Any] = {"args": list(args)} if args else {}
    elif _PLAIN_WORD.fullmatch(command[0]):
        told = {"onstart": command[0], "args": [*command[1:], *args]}
    else:
        told = {"onstart": "/bin/sh", "args": ["-c", _EXEC_REST, *command, *args]}
    length = len(told.get("onstart", "")) + sum(map(len, told.get("args", ())))
    if length > MAX_COMMAND_CHARS:
        raise _refused(
            f"command and args have {length} characters together; Vast takes {MAX_COMMAND_CHARS}. "
            "Put the script into the image, or into an environment variable that a short command runs"
        )
    return told


def _env(launch: launches.Launch) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, value in launch.env.items():
        # A name that looks like a docker flag would be taken for one, and could open ports or mount volumes.
        if not name or name.startswith("-") or "=" in name or _BLANK.search(name):
            raise _refused(
                f"the environment variable {name!r} has a name that Vast can't carry: no '=', blanks or leading '-'"
            )
        if "\0" in value:
            raise _refused(f"the environment variable {name!r} holds a NUL character")
        told[name] = value
    # The ssh server's own port is one of them.
    told.update(dict.fromkeys(_ports(launch.ports, MAX_PORTS - bool(launch.ssh_public_keys)), "1"))
    if launch.hostname is not None:
        if _BLANK.search(launch.hostname) or not launch.hostname:
            raise _refused(f"the hostname {launch.hostname!r} is empty or holds blanks")
        told["-h"] = launch.hostname
    length = sum(len(name) + len(value) for name, value in told.items())
    if length > MAX_ENV_CHARS:
        raise _refused(f"the environment has {length} characters in all; Vast takes {MAX_ENV_CHARS}")
    return told


def _ports(ports: tuple[launches.Port, ...], most: int) -> list[str]:
    flags: dict[str, None] = {}
    for port in ports:
        protocol = port.protocol.upper()
        if protocol not in ("TCP", "UDP"):
            raise _refused(f"port {port.number} has protocol {port.protocol}; Vast opens TCP and UDP")
        if not 1 <= port.number <= 65535:
            raise _refused(f"port {port.number} is out of range; allowed are 1–65535")
        flags[f"-p {port.number}:{port.number}" + ("/udp" if protocol == "UDP" else "")] = None
    if len(flags) > most:
        raise _refused(f"{len(flags)} ports are asked for; Vast opens {most} an instance")
    return list(flags)


def _login(login: launches.RegistryLogin) -> str:
    server = re.sub(r"^https?://", "", login.server.strip()).split("/", 1)[0] or "docker.io"
    if server in ("index.docker.io", "registry-1.docker.io"):
        server = "docker.io"
    for name, value in (("username", login.username), ("password", login.password), ("server", server)):
        if not value or _BLANK.search(value):
            raise _refused(
                f"the registry login for {server} has a {name} that is empty or holds blanks: Vast can't carry it"
            )
    return f"-u {login.username} -p {login.password} {server}"


def _bid(usd_per_hour: float | None) -> float:
    lowest, highest = BID_USD_PER_HOUR
    if usd_per_hour is None or not lowest <= usd_per_hour <= highest:
        raise _refused(f"the bid is {usd_per_hour} $/h; Vast takes {lowest}–{highest:g}")
    return usd_per_hour


def _refused(why: str) -> errors.LaunchRefused:
    return errors.LaunchRefused(failures.CLOUD, why)
