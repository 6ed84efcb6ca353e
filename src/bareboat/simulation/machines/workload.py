"""The first process of a machine: from the clone to the exec of the command, and what is said when that fails.

Everything here runs in a forked child with nothing of asyncio; the outcome goes to the monitor through a pipe that the
exec closes.
"""

import base64
import contextlib
import errno
import json
import os
import pwd
import resource
import select
import signal
import socket
from pathlib import Path
from typing import Any

from bareboat.simulation.machines import ns, view

NOT_FOUND, NOT_EXECUTABLE = 127, 126


class CannotRun(Exception):
    """The command can't be started; `code` is what a container runtime reports then."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def enter(plan: dict[str, Any], *, go: int, outcome: int, streams: tuple[int, int], again: bool) -> None:
    """Never returns when all goes well. `go` gives a byte once ids and limits are set, and its end means: give up."""
    try:
        if not os.read(go, 1):
            return
        ns.die_with_parent()
        if select.select([go], [], [], 0)[0]:
            return  # the monitor died before its death could be noticed
        if plan["kept_apart"]:
            _set_up(plan, again=again)
        else:
            _private_folder(plan)
        _streams(streams)
        _become(plan)
        _exec(plan)
    except CannotRun as refusal:
        _report(outcome, {"code": refusal.code, "reason": str(refusal)})
    except (OSError, ValueError) as error:
        _report(outcome, {"failed": str(error)})


def _report(outcome: int, said: dict[str, Any]) -> None:
    os.write(outcome, json.dumps(said).encode())


def _set_up(plan: dict[str, Any], *, again: bool) -> None:
    if again:
        view.refresh_proc()
        return
    os.setgid(0)
    os.setuid(0)
    socket.sethostname(plan["hostname"])
    ns.loopback_up()
    view.build(plan)


def _private_folder(plan: dict[str, Any]) -> None:
    """Without namespaces: files lie under a folder of the machine's own, and its programs are found first."""
    own = Path(plan["workdir"])
    for path, (content, mode) in plan["files"].items():
        target = own / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(base64.b64decode(content))
        target.chmod(mode)
    plan["env"]["PATH"] = f"{own}/usr/local/bin:{own}/usr/bin:{own}/usr/sbin:{plan['env'].get('PATH', os.defpath)}"


def _streams(streams: tuple[int, int]) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (streams[0], 1), (streams[1], 2)):
        os.dup2(source, target, inheritable=True)


def _become(plan: dict[str, Any]) -> None:
    """The session, limits, user and folder of the command."""
    os.setsid()
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    home = _user(plan["user"]) if plan["kept_apart"] else plan["workdir"]
    plan["env"].setdefault("HOME", home)
    try:
        os.makedirs(plan["workdir"], exist_ok=True)  # noqa: PTH103 - an os call says its errno plainly
        os.chdir(plan["workdir"])
    except OSError as error:
        raise CannotRun(NOT_FOUND, f"working folder {plan['workdir']!r}: {os.strerror(error.errno or 0)}") from None


def _user(text: str) -> str:
    """Becomes the user and returns their home. The monitor has set the text to root where no other id exists."""
    name, _, group = text.partition(":")
    uid, gid, home = 0, 0, "/root"
    if name:
        try:
            found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
            uid, gid, home = found.pw_uid, found.pw_gid, found.pw_dir
        except KeyError:
            if not name.isdecimal():
                raise CannotRun(NOT_EXECUTABLE, f"unable to find user {name}: no matching entries in passwd") from None
            uid, home = int(name), "/"
    if group.isdecimal():
        gid = int(group)
    if uid or gid:
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        ns.die_with_parent()  # lost with the change of user
    return home


def _exec(plan: dict[str, Any]) -> None:
    argv, env = plan["argv"], plan["env"]
    program = argv[0]
    try:
        os.execvpe(program, argv, env)
    except OSError as error:
        raise CannotRun(*_why(program, error)) from None


def _why(program: str, error: OSError) -> tuple[int, str]:
    head = f'exec: "{program}"'
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if "/" not in program:
            return NOT_FOUND, f"{head}: executable file not found in $PATH"
        with contextlib.suppress(OSError):
            if Path(program).exists():
                return NOT_FOUND, f"exec {program}: no such file or directory"
        return NOT_FOUND, f"{head}: stat {program}: no such file or directory"
    if error.errno == errno.EACCES:
        return NOT_EXECUTABLE, f"{head}: permission denied"
    if error.errno == errno.ENOEXEC:
        return NOT_EXECUTABLE, f"exec {program}: exec format error"
    return NOT_EXECUTABLE, f"{head}: {os.strerror(error.errno or 0)}"
