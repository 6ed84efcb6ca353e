"""The kernel calls that make a machine: clone into namespaces, id maps, mounts, loopback, death signals.

Thin wrappers over libc; each raises OSError with what was tried. Standard library only, as everything the zygote runs.
"""

import contextlib
import ctypes
import fcntl
import os
import platform
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
ALL = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
CLONE_PARENT = 0x8000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 4096, 16384, 1 << 18, 1024, 2048, 1 << 21
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_SYS_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "loongarch64": 220}.get(platform.machine())
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "loongarch64": 41}.get(platform.machine(), 0)

# PyDLL keeps the interpreter's lock over the call: a clone that let go of it would come back twice without it.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def clone(flags: int) -> int:
    """Like `os.fork`, with the child in the new namespaces that `flags` name. The caller must be single-threaded."""
    if _SYS_CLONE is None:
        raise OSError(38, f"clone: number not known on {platform.machine()}")
    numbers = [ctypes.c_long(value) for value in (_SYS_CLONE, flags | signal.SIGCHLD, 0, 0, 0, 0)]
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = _libc.syscall(*numbers)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    return _check(pid, "clone")


def run_in_child(work: Callable[[], None]) -> None:
    """The whole life of a forked process: `work`, then the end, whatever happens; a crash is printed. Never returns."""
    code = 1
    try:
        work()
        code = 0
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        os._exit(code)


def joined(fds: list[int], flags: int) -> int:
    """Forks a child of the caller into the namespaces kept as open files of /proc/PID/ns, the user's first.

    Returns as `os.fork` does. A helper does the joining, so that the caller itself stays outside. Raises OSError when
    they can't be joined, as when the process namespace among them has ended.
    """
    read_end, write_end = os.pipe()
    helper = os.fork()
    if helper == 0:
        told = b""
        try:
            for fd in fds:
                _check(_libc.setns(fd, 0), "setns")
            pid = clone(flags | CLONE_PARENT)
            if pid == 0:
                os.close(read_end)
                os.close(write_end)
                return 0
            told = str(pid).encode()
        except OSError as error:
            told = str(-(error.errno or 1)).encode()
        os.write(write_end, told)
        os._exit(0)
    os.close(write_end)
    os.waitpid(helper, 0)
    answer = int(os.read(read_end, 32) or b"-1")
    os.close(read_end)
    if answer < 0:
        raise OSError(-answer, f"join the machine's namespaces: {os.strerror(-answer)}")
    return answer


def map_ids(pid: int, *, full: bool) -> None:
    """Written from outside: every id the caller has (root may), or root inside for the caller's own id outside."""
    base = Path("/proc") / str(pid)
    if not full:
        (base / "setgroups").write_text("deny")
    for name, own in (("uid_map", os.geteuid()), ("gid_map", os.getegid())):
        (base / name).write_text(_same_ids(name) if full else f"0 {own} 1")


def _same_ids(name: str) -> str:
    lines = [line.split() for line in Path("/proc/self", name).read_text().splitlines()]
    return "\n".join(f"{inside} {inside} {count}" for inside, _, count in lines)


def ids_known() -> int:
    """How many user ids the caller's user namespace has."""
    return sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    result = _libc.mount(_text(source), _text(target), _text(kind), ctypes.c_ulong(flags), _text(options))
    _check(result, f"mount {kind or source or ''} on {target}")


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Binds a file or folder, with the mounts beneath it."""
    mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        # In a user namespace a remount that drops a flag the source has is refused.
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | _kept_flags(target))


def _kept_flags(path: str) -> int:
    found = os.statvfs(path).f_flag
    pairs = (
        (os.ST_NOSUID, MS_NOSUID),
        (os.ST_NODEV, MS_NODEV),
        (os.ST_NOEXEC, MS_NOEXEC),
        (os.ST_NOATIME, MS_NOATIME),
        (os.ST_NODIRATIME, MS_NODIRATIME),
        (os.ST_RELATIME, MS_RELATIME),
    )
    return sum(flag for seen, flag in pairs if found & seen)


def pivot_here(new_root: str) -> None:
    """Makes `new_root` (a mount point) the root of this mount namespace and lets go of the old one."""
    os.chdir(new_root)
    _check(_libc.syscall(ctypes.c_long(_SYS_PIVOT_ROOT), b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """A signal for this process when the thread that forked it ends. Lost on exec of a set-id program and on setuid."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0), "prctl(PDEATHSIG)")


def adopt_orphans() -> None:
    """Processes whose parents die below this one become its children."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "prctl(SUBREAPER)")


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def descendants(pid: int) -> Iterator[int]:
    """Every living process below `pid`, as /proc tells at this moment."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from descendants(int(child))
