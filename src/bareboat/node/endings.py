"""What a pod's record becomes when its container ends, is lost or never starts. The steps after it follow from that."""

import structlog

from bareboat.core import cloud as clouds
from bareboat.core import errors, instances
from bareboat.fleet import accounts
from bareboat.node import decide, parts, records, telling, views
from bareboat.workload import exit_codes, launch, ssh_status
from bareboat.workload import pod as pods
from bareboat.workload import status as statuses

log = structlog.get_logger()

MOST_AVOIDED = 64
EXIT_TAIL_LINES = 200
EXIT_PAUSE_S = 2.0
KEPT_LOG_BYTES = 64 * 1024
KEPT_LOGS_BYTES = 32 * 1024 * 1024
TERMINATION_LOG_LINES, TERMINATION_LOG_BYTES = 80, 2048


class KeptLogs:
    """The last output of ended containers, whose instances are gone: newest kept, within a bound of memory. By the uid
    of a pod with one container, or `uid/container`."""

    def __init__(self) -> None:
        self._logs: dict[str, str] = {}
        self._bytes = 0

    def keep(self, key: str, text: str) -> None:
        self._drop(key)
        text = text[-KEPT_LOG_BYTES:]
        self._logs[key] = text
        self._bytes += len(text)
        while self._bytes > KEPT_LOGS_BYTES:
            self._drop(next(iter(self._logs)))

    def drop(self, uid: str) -> None:
        """Of all containers of the pod."""
        for key in [each for each in self._logs if each.partition("/")[0] == uid]:
            self._drop(key)

    def get(self, key: str) -> str | None:
        """None when nothing was kept: the container has not ended, or this process did not see it end."""
        return self._logs.get(key)

    def _drop(self, key: str) -> None:
        self._bytes -= len(self._logs.pop(key, ""))


class Endings:
    """Changes records only; what is rented is ended by the step that `decide` names next."""

    def __init__(self, use: parts.Parts, kept: KeptLogs) -> None:
        self._use = use
        self._kept = kept

    async def read_exit(
        self, pod: pods.Pod, record: records.Record, instance: instances.Instance, account: accounts.Account
    ) -> float | None:
        """Finds the exit code of an ended process. Returns the seconds after which to try again, None when settled."""
        log_text = await self._last_output(account.cloud, instance.id)
        exit_code = instance.exit_code
        if exit_code is None and launch.reports_exit_code(pod) and log_text is not None:
            exit_code = exit_codes.find(log_text, str(record.attempt))
        expects = launch.reports_exit_code(pod) or log_text is None
        record.exit_reads += 1
        if exit_code is None and expects and record.exit_reads < self._use.policy.exit_reads:
            return EXIT_PAUSE_S
        output = exit_codes.strip(log_text or "")
        self._kept.keep(record.uid, output)
        message = ""
        if exit_code and pod.spec.containers[0].termination_message_policy == "FallbackToLogsOnError":
            message = "\n".join(output.splitlines()[-TERMINATION_LOG_LINES:])[-TERMINATION_LOG_BYTES:]
        now_s = self._use.clock.now_s()
        if record.running_s is None:  # it ended before anybody saw it run
            record.running_s = record.rented_s or now_s
        record.has_run = True
        self.container_ended(pod, record, decide.ended(record, exit_code, message, now_s))
        return None

    async def _last_output(self, cloud: clouds.Cloud, instance_id: str) -> str | None:
        if not isinstance(cloud, clouds.HasLogs):
            return None
        try:
            return await cloud.logs(instance_id, tail=EXIT_TAIL_LINES)
        except errors.CloudError as trouble:
            log.info("exit.log_unread", cloud=cloud.name, id=instance_id, why=trouble.why)
            return None

    def container_ended(self, pod: pods.Pod, record: records.Record, ended: decide.Ended) -> None:
        """The restart policy decides: once more on a machine rented anew, or the end of the pod."""
        now_s = self._use.clock.now_s()
        record.ending_why = ended.why
        if decide.restarts(pod, ended.terminated):
            pause_s = decide.restart_pause_s(record, now_s)
            if not record.is_counted:
                record.last = ended.terminated
                record.restart_count += 1
                if record.access == records.SSH:
                    record.earlier = ssh_status.carried(pod, record.earlier, record.told)
            record.not_before_s = now_s + pause_s
            record.waiting = views.restart_waiting(pod, record, pause_s)
            record.running_s = None
            self._use.recorder.warning(
                telling.about(pod, container=True),
                "BackOff",
                f"{ended.why}; starting again on a machine rented anew in {telling.duration(pause_s)}",
            )
            return
        disrupted = ended.why if ended.disrupted else ""
        reason = "InstanceLost" if ended.disrupted else ""
        record.end = records.End(ended.terminated, reason, disrupted, disrupted, process_ended=not ended.disrupted)
        tell = self._use.recorder.normal if ended.terminated.exit_code == 0 else self._use.recorder.warning
        tell(telling.about(pod, container=True), "Ended", f"The pod is over: {ended.why}")

    def gave_up(self, pod: pods.Pod, record: records.Record, action: decide.GiveUp) -> None:
        """Nothing ran: the next attempt goes elsewhere, after a pause that grows with failures in a row."""
        now_s = self._use.clock.now_s()
        pause_s = views.pull_pause_s(record) if action.pull_problem else min(60.0, 2.0 * record.failures)
        record.failures += 1
        record.ssh_failures += action.ssh_problem
        if action.avoid_machine and record.machine_id:
            if len(record.avoid) >= MOST_AVOIDED:
                record.avoid.clear()  # the ban below holds for the latest; old ones get another chance
            record.avoid.add(record.machine_id)
            self._use.broker.note(record.cloud, record.machine_id, good=False)
            self._use.broker.bans.ban_machine(record.cloud, record.machine_id, action.message, now_s)
        record.ending_why = action.message or action.reason  # empty would mean that it goes on
        record.not_before_s = now_s + pause_s
        reason = "ImagePullBackOff" if action.pull_problem and record.failures > 1 else action.reason
        record.waiting = pods.Waiting(reason, statuses.clip(action.message))
        spent = f"{record.cloud}/{record.instance_id} is given back"
        again = f"; next try in {telling.duration(pause_s)}" if pause_s else "; the next offer is tried"
        self._use.recorder.warning(
            telling.about(pod, container=True), action.event, f"{action.message}; {spent}{again}"
        )

    def finish(self, pod: pods.Pod, record: records.Record, end: records.End) -> None:
        """The pod is over; told when nothing runs any more."""
        record.end = end
        message = end.message or f"The pod is over: {_told(end.terminated)}"
        self._use.recorder.normal(telling.about(pod), end.reason or "Ended", message)

    def replace(self, pod: pods.Pod, record: records.Record) -> None:
        """Another image: the running container ends, a new one is rented for at once."""
        now_s = self._use.clock.now_s()
        image = pod.spec.containers[0].image
        if record.has_run:
            killed = pods.Terminated(137, "Error", "Container image changed")
            killed.started_at = statuses.stamp(record.running_s) if record.running_s is not None else None
            killed.finished_at = statuses.stamp(now_s)
            killed.container_id = record.container_id
            record.last = killed
            record.restart_count += 1
        record.ending_why = f"the pod's image was changed to {image}"
        record.running_s = None
        record.waiting = pods.Waiting("ContainerCreating", f"{record.ending_why}; making way for the new one")
        message = f"Container image changed to {image}; the instance is replaced"
        self._use.recorder.normal(telling.about(pod, container=True), "Killing", message)

    def settle(self, action: decide.Action, pod: pods.Pod, record: records.Record) -> None:
        """What a decision that needs nobody else makes of the record."""
        match action:
            case decide.GiveUp():
                self.gave_up(pod, record, action)
            case decide.Ended():
                self.container_ended(pod, record, action)
            case decide.Finish():
                self.finish(pod, record, action.end)
            case decide.Replace():
                self.replace(pod, record)


def _told(terminated: pods.Terminated) -> str:
    why = f" ({terminated.reason})" if terminated.reason not in ("", "Completed", "Error") else ""
    return f"its containers have ended, exit code {terminated.exit_code}{why}"
