"""Writes what is known of a pod to the API: status and annotations in one patch, only when something changed."""

from bareboat.core import instances
from bareboat.kube import client as clients
from bareboat.kube import errors, patches, resources
from bareboat.node import parts, records, views
from bareboat.workload import pod as pods
from bareboat.workload import status as statuses


class Writer:
    """Keeps the newest state of each pod that the API answered with, since the informer hears of our writes later."""

    def __init__(self, use: parts.Parts) -> None:
        self._use = use
        self._answers: dict[str, pods.Pod] = {}
        self.writes = 0

    def newest(self, pod: pods.Pod) -> pods.Pod:
        """The pod as the informer has it, or as our last write left it, whichever is newer."""
        answer = self._answers.get(pod.metadata.uid)
        if answer is None:
            return pod
        if _version(answer) > _version(pod):
            return answer
        del self._answers[pod.metadata.uid]
        return pod

    def forget(self, uid: str) -> None:
        self._answers.pop(uid, None)

    async def write(
        self,
        pod: pods.Pod,
        record: records.Record,
        instance: instances.Instance | None,
        *,
        always: bool = False,
        unchanged_since: str | None = None,
    ) -> pods.Pod | None:
        """The pod as it stands afterwards; None when there is no such pod any more (another may have its name).

        `always` writes everything even if nothing changed: the caller needs the answer's word that the pod still
        stands, and that the API has what is written here whatever we believe that it had. With `unchanged_since` (a
        resourceVersion) it raises `errors.Conflict` and writes nothing when anybody wrote to the pod since.
        """
        now_s = self._use.clock.now_s()
        status = views.status(pod, record, instance, self._use.host_ip, now_s)
        wanted = record.annotations() | views.address_annotations(instance)
        known = pod.metadata.annotations or {}
        changed = {name: value for name, value in wanted.items() if always or known.get(name) != value}
        if not always and not changed and statuses.same(status, pod.status):
            return pod
        body = patches.status(
            pod.metadata.uid,
            statuses.encode(status, pod.status),
            annotations=changed,
            resource_version=unchanged_since,
        )
        namespace, name = pod.key
        self.writes += 1
        try:
            answer = await self._use.client.patch(
                resources.PODS.path(namespace, name, "status"), body, clients.Patch.STRATEGIC, type=pods.Pod
            )
        except (errors.NotFound, errors.OtherObject):
            return None
        self._answers[pod.metadata.uid] = answer
        return answer


def _version(pod: pods.Pod) -> int:
    version = pod.metadata.resource_version
    return int(version) if version.isdigit() else 0
