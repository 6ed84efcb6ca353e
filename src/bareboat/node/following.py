"""What the sessions hear, into the records of pods in ssh access. Sessions know machines; this knows pods.

Owns which pod has a session and what is kept of one that ends; leaves what follows from it to `decide`.
"""

import asyncio
from collections.abc import Callable

import structlog

from bareboat.access import failures, runner
from bareboat.core import instances
from bareboat.node import decide, deliveries, endings, parts, records, sessions, telling
from bareboat.workload import pod as pods
from bareboat.workload import ssh_status

log = structlog.get_logger()

MARGIN_S = 2.0
"""More than the grace: the runner kills at its end, and says so."""
KEPT_LINES = 500
KEPT_S = 5.0


class Following:
    """For all pods of a node. Touched by the worker of a pod's key only, but for what sessions tell."""

    def __init__(self, use: parts.Parts, ssh: parts.SshAccess, changed: Callable[[str], None]) -> None:
        self._use = use
        self._ssh = ssh
        self._kept: set[tuple[str, str]] = set()
        ssh.sessions.on_news = changed

    def hear(self, pod: pods.Pod, record: records.Record, instance: instances.Instance) -> None:
        """Keeps the session with the pod's machine, and takes over what it has heard."""
        if record.access != records.SSH or instance.state not in (*instances.SETTLED, instances.State.UNREACHABLE):
            return
        session = self._ssh.sessions.keep(record.uid, instance, record.host_key, self._deliver(pod, record))
        record.host_key = self._ssh.sessions.host_key(session) or record.host_key
        record.image_id = session.image_id or record.image_id
        if session.told is not None and session.told is not record.told:
            self._tell(pod, record, session)
            record.hear(session.told)
        record.unfollowed_why = session.trouble

    def stop(self, record: records.Record, action: decide.StopContainers) -> None:
        """The containers have `grace_s` from now on."""
        record.stop_by_s = self._use.clock.now_s() + action.grace_s + MARGIN_S
        session = self._ssh.sessions.find(record.uid)
        if session is not None:
            session.stop(action.grace_s)

    async def keep_output(self, pod: pods.Pod, record: records.Record, kept: endings.KeptLogs) -> None:
        """The last lines of each container, before its machine goes with the rest."""
        session = self._ssh.sessions.find(record.uid)
        key = (record.uid, record.instance_id or "")
        if session is None or record.told is None or key in self._kept:
            return
        self._kept.add(key)
        for container in (*pod.spec.init_containers, *pod.spec.containers):
            try:
                async with asyncio.timeout(KEPT_S):
                    said = await _output(session, container.name)
            except (failures.AccessError, TimeoutError) as problem:
                log.info("logs.not_kept", pod="/".join(record.key), container=container.name, why=str(problem))
                return
            kept.keep(f"{record.uid}/{container.name}", said.decode(errors="replace"))

    def drop(self, uid: str) -> None:
        """Its machine is gone."""
        self._ssh.sessions.drop(uid)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._ssh.sessions.drop(uid)
        self._ssh.deliveries.forget(uid)
        self._kept = {each for each in self._kept if each[0] != uid}

    def _deliver(self, pod: pods.Pod, record: records.Record) -> sessions.Deliver:
        attempt = str(record.attempt)

        async def deliver() -> deliveries.Delivery | deliveries.NotReady:
            return await self._ssh.deliveries.make(pod, attempt)

        return deliver

    def _tell(self, pod: pods.Pod, record: records.Record, session: sessions.Session) -> None:
        """What the runner noted since it was last heard, as Events. What was noted before this process came is told."""
        assert session.told is not None
        numbers = [each.number for each in session.told.occurrences]
        if record.told is None and record.has_run:
            record.told_number = max(numbers, default=0)
            return
        for event in ssh_status.events(pod, session.told, record.told_number):
            about = telling.about(pod, field_path=event.field_path)
            tell = self._use.recorder.warning if event.warning else self._use.recorder.normal
            tell(about, event.reason, event.message)
        record.told_number = max(numbers, default=record.told_number)


async def _output(session: sessions.Session, container: str) -> bytes:
    async with await session.runner.logs(runner.Log(container, tail=KEPT_LINES)) as process:
        process.end_input()
        parts = []
        while data := await process.read_stdout():
            parts.append(data)
        return b"".join(parts)
