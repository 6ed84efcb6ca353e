"""Whom a container runs as, and what is taken from it: securityContext of pod and container, the container's first.
Pure; refusals of `runAsNonRoot` are in the kubelet's own words."""

from typing import Any

from bareboat.workload import pod as pods

_ALL = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
ALL_CAPABILITIES = tuple(_ALL.split())


def user(pod: pods.Pod, container: pods.Container, of_image: str) -> str:
    """`uid[:gid]` or the image's own `name[:group]`. A runAsGroup without any user keeps root, as a runtime does."""
    uid = _effective(pod, container, "runAsUser")
    gid = _effective(pod, container, "runAsGroup")
    name, _, group = of_image.partition(":")
    if isinstance(uid, int):
        # With a uid of the pod's own the image's group counts no longer: the runtime takes it from /etc/passwd, else 0.
        return f"{uid}:{gid}" if isinstance(gid, int) else str(uid)
    if isinstance(gid, int):
        return f"{name or '0'}:{gid}"
    return f"{name}:{group}" if group else name


def groups(pod: pods.Pod) -> tuple[int, ...]:
    """Supplementary groups, the volumes' group among them."""
    context = pod.spec.security_context or {}
    asked = [each for each in context.get("supplementalGroups") or () if isinstance(each, int)]
    group = fs_group(pod)
    return tuple(dict.fromkeys([*asked, *([group] if group is not None else [])]))


def fs_group(pod: pods.Pod) -> int | None:
    found = (pod.spec.security_context or {}).get("fsGroup")
    return found if isinstance(found, int) else None


def no_new_privileges(container: pods.Container) -> bool:
    return (container.security_context or {}).get("allowPrivilegeEscalation") is False


def dropped(container: pods.Container) -> tuple[str, ...]:
    """Capabilities to take away, in the kernel's names without CAP_; ALL stands for every one. What is added as well
    stays: a container has it by default, as `fields` makes sure."""
    asked = (container.security_context or {}).get("capabilities") or {}
    drop, add = (_names(asked.get(each)) for each in ("drop", "add"))
    if "ALL" in drop and add:
        drop = ALL_CAPABILITIES
    return tuple(name for name in drop if name not in add)


def _names(several: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(name).upper().removeprefix("CAP_") for name in several or ()))


def read_only_root(container: pods.Container) -> bool:
    return bool((container.security_context or {}).get("readOnlyRootFilesystem"))


def refuses_root(pod: pods.Pod, container: pods.Container, of_image: str) -> str:
    """Why runAsNonRoot keeps this container from starting; empty when it does not."""
    if not _effective(pod, container, "runAsNonRoot"):
        return ""
    meta = pod.metadata
    who = f'(pod: "{meta.name}_{meta.namespace}({meta.uid})", container: {container.name})'
    uid = _effective(pod, container, "runAsUser")
    if isinstance(uid, int):
        return f"container's runAsUser breaks non-root policy {who}" if uid == 0 else ""
    name = of_image.partition(":")[0]
    if not name or (name.isascii() and name.isdigit() and int(name) == 0):
        return f"container has runAsNonRoot and image will run as root {who}"
    if not (name.isascii() and name.isdigit()):
        return (
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {who}"
        )
    return ""


def _effective(pod: pods.Pod, container: pods.Container, key: str) -> Any:
    own = (container.security_context or {}).get(key)
    return own if own is not None else (pod.spec.security_context or {}).get(key)
