"""The file tree a machine sees: its own root on a tmpfs, the host's programs or an image's folder beneath, own /etc.

Runs in the machine's first process, after clone and before exec. Where /usr can't be made writable, files that have to
lie there are laid over it.
"""

import base64
import contextlib
import os
from pathlib import Path
from typing import Any

from bareboat.simulation.machines import ns

# Mounted over in the machine's own mount namespace only; nothing that is bound later lies beneath it.
_BASE = "/sys"
_NEW = f"{_BASE}/new"
_HOST_DIRS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_HOST_ETC_DIRS = ("alternatives", "ssl", "pki", "ca-certificates")
_HOST_ETC_FILES = ("ld.so.cache", "mime.types", "localtime", "bash.bashrc")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_PROFILE = 'PATH="$PATH:/opt/sim/bin"\nexport PATH\n'
# A Python that was built elsewhere looks for its library where it was built.
_PYTHON = """\
#!/bin/sh
LD_LIBRARY_PATH=/opt/sim/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec /opt/sim/python/bin/python3 "$@"
"""
_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n"
    "nginx:x:101:101::/nonexistent:/bin/false\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
_GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nnginx:x:101:\nnogroup:x:65534:\n"

Plan = dict[str, Any]
"""root ("host" or a folder), disk_bytes, hostname, os_release, folders, files: path → [base64, mode], python."""


def build(plan: Plan) -> bool:
    """Builds the tree and makes it this process's root; False when /usr can't be written. Raises OSError."""
    ns.mount(None, "/", None, ns.MS_REC | ns.MS_PRIVATE)
    ns.mount("tmpfs", _BASE, "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, f"size={plan['disk_bytes']},mode=755")
    for name in ("new", "upper", "work"):
        Path(_BASE, name).mkdir()
    writable = True
    if plan["root"] == "host":
        ns.mount(_NEW, _NEW, None, ns.MS_BIND)
        writable = _host_programs()
    else:
        ns.mount("overlay", _NEW, "overlay", 0, f"lowerdir={plan['root']},upperdir={_BASE}/upper,workdir={_BASE}/work")
    _etc_of_host(plan)
    _devices()
    _python(plan)
    Path(_NEW, "proc").mkdir(exist_ok=True)
    ns.mount("proc", f"{_NEW}/proc", "proc", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
    ns.pivot_here(_NEW)
    # From here on no link of an image can lead out into the host's tree.
    _folders(plan)
    _etc(plan)
    for path, (content, mode) in plan["files"].items():
        _lay(Path(path), base64.b64decode(content), mode, writable)
    return writable


def refresh_proc() -> None:
    """A /proc for the process namespace of a further run, over the one of the run before."""
    ns.mount("proc", "/proc", "proc", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)


def _host_programs() -> bool:
    """The host's programs; says whether /usr can be written (its changes live in the machine's own disk)."""
    usr = f"{_NEW}/usr"
    Path(usr).mkdir()
    writable = False
    # As an ordinary user /usr belongs to an id that has no name inside: overlay mounts, but opening a new file there
    # gives EOVERFLOW. So it is asked, not assumed.
    with contextlib.suppress(OSError):
        ns.mount("overlay", usr, "overlay", 0, f"lowerdir=/usr,upperdir={_BASE}/upper,workdir={_BASE}/work")
        writable = _can_write(usr)
    if not writable:
        ns.bind("/usr", usr, read_only=True)
    for name in _HOST_DIRS:
        source = Path("/", name)
        if source.is_symlink():
            Path(_NEW, name).symlink_to(source.readlink())
        elif source.is_dir():
            Path(_NEW, name).mkdir()
            ns.bind(str(source), f"{_NEW}/{name}", read_only=True)
    return writable


def _can_write(usr: str) -> bool:
    probe = Path(usr, "bin", ".probe")
    probe.touch()
    probe.unlink()
    return True


def _python(plan: Plan) -> None:
    if plan["python"]:
        home = Path(_NEW, "opt/sim/python")
        home.mkdir(parents=True, exist_ok=True)
        ns.bind(plan["python"], str(home), read_only=True)


def _folders(plan: Plan) -> None:
    for name, mode in (("tmp", 0o1777), ("run", 0o755), ("var", 0o755), ("root", 0o700), ("var/tmp", 0o1777)):
        made = Path("/", name)
        made.mkdir(exist_ok=True)
        made.chmod(mode)
    for name in ("workspace", "home", "mnt", "srv", "sys", "var/log", "var/cache", "var/lib", "opt/sim/bin"):
        Path("/", name).mkdir(parents=True, exist_ok=True)
    if not os.path.lexists("/var/run"):
        Path("/var/run").symlink_to("../run")
    for path in plan["folders"]:
        Path(path).mkdir(parents=True, exist_ok=True)
    if plan["python"]:
        Path("/opt/sim/bin/python3").write_text(_PYTHON)
        Path("/opt/sim/bin/python3").chmod(0o755)


def _etc_of_host(plan: Plan) -> None:
    etc = Path(_NEW, "etc")
    etc.mkdir(exist_ok=True)
    if plan["root"] != "host":
        return
    for name in _HOST_ETC_DIRS:
        if Path("/etc", name).is_dir():
            (etc / name).mkdir()
            ns.bind(f"/etc/{name}", f"{etc}/{name}", read_only=True)
    for name in _HOST_ETC_FILES:
        with contextlib.suppress(OSError):
            (etc / name).write_bytes(Path("/etc", name).read_bytes())


def _etc(plan: Plan) -> None:
    etc = Path("/etc")
    (etc / "profile.d").mkdir(parents=True, exist_ok=True)
    host = plan["hostname"]
    for name, text in (
        ("hosts", f"127.0.0.1\tlocalhost {host}\n::1\tlocalhost\n"),
        ("hostname", f"{host}\n"),
        ("resolv.conf", "# the machine has a loopback and nothing else\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
        ("passwd", _PASSWD),
        ("group", _GROUP),
        ("os-release", plan["os_release"]),
        ("profile.d/simulated.sh", _PROFILE),
    ):
        (etc / name).write_text(text)


def _devices() -> None:
    dev = Path(_NEW, "dev")
    for name in ("", "pts", "shm"):
        (dev / name).mkdir(exist_ok=True)
    (dev / "shm").chmod(0o1777)
    for name in _DEVICES:
        if Path("/dev", name).exists():
            (dev / name).touch()
            ns.bind(f"/dev/{name}", f"{dev}/{name}")
    ns.mount("devpts", f"{dev}/pts", "devpts", ns.MS_NOSUID | ns.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    for name, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        (dev / name).symlink_to(target)


def lay_all(files: dict[str, Any], *, append: bool) -> None:
    """Writes files into a machine that runs, in a process that has joined it; path → [base64, mode]."""
    for path, (content, mode) in files.items():
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab" if append else "wb") as file:
            file.write(base64.b64decode(content))
        target.chmod(mode)


def _lay(target: Path, content: bytes, mode: int, writable: bool) -> None:
    if not writable:
        _make_room(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    target.chmod(mode)


def _make_room(target: Path) -> None:
    """Where `target` would fall into a read-only folder: a tmpfs over that folder, filled with links to what it hid."""
    folder = target.parent
    while not folder.is_dir():
        folder = folder.parent
    folder = folder.resolve()
    if not os.statvfs(folder).f_flag & os.ST_RDONLY:
        return
    hidden = Path("/opt/sim/host", *folder.parts[1:])
    hidden.mkdir(parents=True, exist_ok=True)
    ns.bind(str(folder), str(hidden), read_only=True)
    ns.mount("tmpfs", str(folder), "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "size=64m,mode=755")
    for entry in hidden.iterdir():
        (folder / entry.name).symlink_to(entry)
