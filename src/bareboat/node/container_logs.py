"""`kubectl logs` of a rented container: the cloud's own log while it exists, what was kept of it afterwards."""

from bareboat.core import cloud as clouds
from bareboat.core import errors
from bareboat.kubelet import logs, polled_logs
from bareboat.node import controller, parts, records, ssh_logs
from bareboat.workload import exit_codes


class ContainerLogs:
    """One per node; keeps nothing of its own."""

    def __init__(self, use: parts.Parts, pods: controller.Pods) -> None:
        self._use = use
        self._pods = pods

    async def __call__(self, namespace: str, pod: str, container: str, options: logs.LogOptions) -> logs.Lines:
        found = self._pods.by_name(namespace, pod)
        if found is None:
            raise logs.NotFound(f'pod "{pod}" not found in namespace "{namespace}"')
        if container not in [each.name for each in (*found.spec.containers, *found.spec.init_containers)]:
            raise logs.NotFound(f'container "{container}" not found in pod "{pod}"')
        uid = found.metadata.uid
        record = self._pods.records.get(uid)
        if record is not None and record.access == records.SSH and self._use.ssh is not None:
            return await ssh_logs.open_log(
                self._use.ssh.sessions.find(uid),
                record,
                self._pods.kept_logs,
                pod,
                container,
                options,
                lambda: self._waiting_reason(uid),
            )
        if options.previous:
            return await self._previous(container, pod, uid, record, options)
        if record is None or not self._has_output(record):
            raise logs.waiting(container, pod, self._waiting_reason(uid))
        if record.end is not None or record.instance_id is None or record.ending_why:
            return await self._kept(uid, pod, options)
        account = self._use.account(record.cloud)
        if account is None or not account.watcher.is_proven(record.instance_id):
            # An annotation can name anybody's instance, and its output is nobody else's business.
            raise logs.waiting(container, pod, "ContainerUnproven")
        instance_id = record.instance_id
        source = polled_logs.PolledLog(
            self._fetch(record, instance_id), lambda: self._ended_s(uid, instance_id), self._use.clock
        )
        return await source.open(options)

    async def _previous(
        self, container: str, pod: str, uid: str, record: records.Record | None, options: logs.LogOptions
    ) -> logs.Lines:
        if record is None or record.last is None or self._pods.kept_logs.get(uid) is None:
            raise logs.no_previous(container, pod)
        return await self._kept(uid, pod, options)

    async def _kept(self, uid: str, pod: str, options: logs.LogOptions) -> logs.Lines:
        kept = self._pods.kept_logs.get(uid)
        if kept is None:
            raise logs.Unavailable(
                f'the instance of pod "{pod}" is gone and its log with it: it ended before this process of the node '
                "started, or its cloud keeps no log"
            )

        return polled_logs.whole(_last_lines(kept, options.tail_lines), self._use.clock.now_s())

    def _fetch(self, record: records.Record, instance_id: str) -> polled_logs.Fetch:
        account = self._use.accounts[record.cloud]
        kept_before = self._pods.kept_logs.get(record.uid)

        def kept_since() -> str | None:
            """What was kept when it ended while somebody follows: its machine may be gone by then."""
            kept = self._pods.kept_logs.get(record.uid)
            return None if kept is kept_before else kept

        told: set[int | None] = set()

        async def fetch(tail: int | None) -> str:
            if not isinstance(account.cloud, clouds.HasLogs):
                raise errors.CloudDown(account.cloud.name, "this cloud keeps no logs")
            text = kept_since()
            if text is None:
                # One line more than asked for, since the last may be the wrapper's.
                fetched = await account.cloud.logs(instance_id, None if tail is None else tail + 2)
                text = kept_since()  # of two answers at the very end this one is surely whole
                text = exit_codes.strip(fetched) if text is None else text
            elif tail in told:
                raise errors.InstanceGone(account.cloud.name, "nothing more will come")
            else:
                told.add(tail)
            return _last_lines(text, tail)

        return fetch

    def _has_output(self, record: records.Record) -> bool:
        return record.running_s is not None or record.end is not None or record.last is not None

    def _waiting_reason(self, uid: str) -> str:
        view = self._pods.waiting_view(uid)
        return view.waiting.reason if view is not None and view.waiting is not None else "ContainerCreating"

    def _ended_s(self, uid: str, instance_id: str) -> float | None:
        record = self._pods.records.get(uid)
        if record is None or record.end is not None or record.instance_id != instance_id:
            return self._use.clock.now_s()
        return None


def _last_lines(text: str, count: int | None) -> str:
    lines = text.splitlines(keepends=True)
    return text if count is None else "".join(lines[len(lines) - min(count, len(lines)) :])
