"""The kubelet's verbs on pods in ssh access: each a command of the runner, or a channel, over the instance's ssh.

Whether a verb makes sense is answered from what the runner last told; what happens then is the machine's answer.
"""

from collections.abc import Awaitable, Sequence

from bareboat.access import failures, machine, processes
from bareboat.kubelet import containers
from bareboat.node import controller, records, sessions
from bareboat.workload import pod as pods


class Containers:
    """One per node."""

    def __init__(self, looked_after: controller.Pods, open_sessions: sessions.Sessions) -> None:
        self._pods = looked_after
        self._sessions = open_sessions

    async def check(self, pod: containers.PodRef, container: str | None, verb: containers.Verb) -> None:
        self._session(pod, container, verb)

    async def exec(
        self, pod: containers.PodRef, container: str, argv: Sequence[str], *, stdin: bool, tty: bool
    ) -> containers.Process:
        session = self._session(pod, container, "exec")
        terminal = processes.Terminal() if tty else None
        return await _begin(session.runner.execute(container, argv, terminal=terminal), stdin=stdin)

    async def attach(self, pod: containers.PodRef, container: str, *, stdin: bool, tty: bool) -> containers.Process:
        session = self._session(pod, container, "attach")
        terminal = processes.Terminal() if tty else None
        return await _begin(session.runner.attach(container, stdin=stdin, terminal=terminal), stdin=stdin)

    async def connect(self, pod: containers.PodRef, port: int) -> containers.Connection:
        session = self._session(pod, None, "port-forward")
        try:
            return _Connection(await session.machine.dial(port))
        except failures.NotListening as nobody:
            raise containers.Refused(str(nobody)) from None
        except failures.AccessError as away:
            raise containers.MachineAway(str(away)) from None

    def usage(self, pod: containers.PodRef) -> Sequence[containers.Usage]:
        found = self._pods.by_name(pod.namespace, pod.name)
        session = None if found is None else self._sessions.find(found.metadata.uid)
        return () if session is None else session.usage

    def _session(self, pod: containers.PodRef, container: str | None, verb: containers.Verb) -> sessions.Session:
        found = self._pods.by_name(pod.namespace, pod.name)
        if found is None or pod.uid not in (None, found.metadata.uid):
            raise containers.NoSuchPod
        record = self._pods.records.get(found.metadata.uid)
        if record is not None and record.access == records.PLAIN and record.instance_id is not None:
            raise containers.PlainOnly(verb)
        if container is not None and not _runs(found, record, container):
            raise containers.not_found(container)
        session = self._sessions.find(found.metadata.uid)
        if record is None or session is None or not record.is_followed:
            raise containers.NotRunning(f"pod {pod.namespace}/{pod.name} has no machine that could be asked (yet)")
        if record.unfollowed_why:
            raise containers.MachineAway(
                f"{record.cloud}/{record.instance_id} can't be reached: {record.unfollowed_why}"
            )
        return session


def _runs(pod: pods.Pod, record: records.Record | None, container: str) -> bool:
    if record is None or record.told is None:
        return False
    every = (*record.told.containers, *record.told.init)
    return any(each.name == container and each.running is not None for each in every)


async def _begin(starting: Awaitable[processes.Process], *, stdin: bool) -> containers.Process:
    try:
        process = await starting
    except failures.AccessError as away:
        raise containers.MachineAway(str(away)) from None
    if not stdin:
        process.end_input()
    return _Process(process)


class _Process:
    def __init__(self, inner: processes.Process) -> None:
        self._inner = inner

    async def read_stdout(self, limit: int) -> bytes:
        return await _or_away(self._inner.read_stdout(limit))

    async def read_stderr(self, limit: int) -> bytes:
        return await _or_away(self._inner.read_stderr(limit))

    async def write_stdin(self, data: bytes) -> None:
        try:
            await self._inner.write(data)
        except failures.Dropped:
            # Whether the command closed its input or the connection broke, the end of the command tells.
            raise containers.StdinClosed from None

    async def close_stdin(self) -> None:
        self._inner.end_input()

    def resize(self, columns: int, rows: int) -> None:
        self._inner.resize(columns, rows)

    async def wait(self) -> int:
        try:
            return (await self._inner.wait()).code
        except failures.AccessError as away:
            raise containers.MachineAway(str(away)) from None

    async def close(self) -> None:
        await self._inner.close()


class _Connection:
    def __init__(self, inner: machine.Channel) -> None:
        self._inner = inner

    async def read(self, limit: int) -> bytes:
        return await _or_away(self._inner.read(limit))

    async def write(self, data: bytes) -> None:
        try:
            await self._inner.write(data)
        except failures.Dropped:
            raise containers.StdinClosed from None

    async def close_write(self) -> None:
        self._inner.end_writing()

    async def close(self) -> None:
        await self._inner.close()


async def _or_away(reading: Awaitable[bytes]) -> bytes:
    try:
        return await reading
    except failures.AccessError as away:
        raise containers.MachineAway(str(away)) from None
