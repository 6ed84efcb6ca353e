"""Everything that has to be right about a pod before a search for offers makes sense."""

from dataclasses import dataclass, field

from bareboat.core import launches, needs, offers
from bareboat.node import parts
from bareboat.workload import annotations as notes
from bareboat.workload import launch as launching
from bareboat.workload import needs as wants
from bareboat.workload import pod as pods
from bareboat.workload import references, registry_logins, support

GPU_ONLY = "gpu"


@dataclass(frozen=True, slots=True)
class NotNow:
    """Why nothing is rented: `reason` and `message` of the waiting container, and of the Event.

    `lasting`: only a change of the pod itself helps; else it is looked at again.
    """

    reason: str
    message: str
    lasting: bool = False
    event: str = ""
    problems: tuple[references.Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A pod that can be launched: what it needs, and what is sent once an offer is chosen."""

    pod: pods.Pod
    wanted: needs.Needs
    env: dict[str, str] = field(repr=False)
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    login: launches.RegistryLogin | None = None
    problems: tuple[references.Problem, ...] = ()
    login_problems: tuple[registry_logins.Problem, ...] = ()

    def launch(self, offer: offers.Offer, attempt: str) -> launches.Launch:
        return launching.build(
            self.pod,
            command=self.command,
            args=self.args,
            env=self.env,
            login=self.login,
            wanted=self.wanted,
            offer=offer,
            attempt=attempt,
        )


def eligible(pod: pods.Pod, rents_for: str) -> NotNow | None:
    """Whether this pod may rent at all. Pure."""
    try:
        asked = notes.Annotations(pod.metadata.annotations).flag(notes.RENT)
        gpus = wants.gpu_count(pod)
    except notes.Invalid as nonsense:
        return NotNow("InvalidPod", str(nonsense), lasting=True, event="InvalidPod")
    if asked is False:
        return NotNow("NotRented", f'annotation {notes.OURS}{notes.RENT} is "false"', lasting=True)
    if asked is None and _of_daemon_set(pod):
        why = f'pods of a DaemonSet rent nothing unless annotated {notes.OURS}{notes.RENT}: "true"'
        return NotNow("NotRented", why, lasting=True, event="NotRented")
    if asked is None and rents_for == GPU_ONLY and not gpus:
        why = f"this node rents for pods that ask for {wants.GPU_RESOURCE}; this one asks for none"
        return NotNow("NotRented", why, lasting=True, event="NotRented")
    fatal = [each for each in support.check(pod) if each.fatal]
    if fatal:
        why = "; ".join(f"{each.field}: {each.why}" for each in fatal)
        return NotNow("Unsupported", f"nothing is rented for this pod: {why}", lasting=True, event="Unsupported")
    return None


def most_usd_per_hour(pod: pods.Pod, use: parts.Parts) -> float | None:
    """The pod's own limit as it stands now; None when it says nonsense, which ends nothing that runs."""
    try:
        return wants.from_pod(pod, use.defaults).max_usd_per_hour
    except notes.Invalid:
        return None


async def prepare(pod: pods.Pod, use: parts.Parts) -> Prepared | NotNow:
    """Reads what the pod refers to: one call per object, shared for seconds; none for a pod that refers to nothing."""
    refused = eligible(pod, use.rents_for)
    if refused is not None:
        return refused
    try:
        wanted = wants.from_pod(pod, use.defaults)
        launching.reports_exit_code(pod)
    except notes.Invalid as nonsense:
        return NotNow("InvalidPod", str(nonsense), lasting=True, event="InvalidPod")
    found = await use.inputs.fetch(pod)
    container = pod.spec.containers[0]
    resolved = references.resolve(pod, container, found, use.facts)
    if resolved.blocking is not None:
        blocking = resolved.blocking
        return NotNow(
            "CreateContainerConfigError", blocking.message, lasting=blocking.lasting, problems=resolved.problems
        )
    logins = registry_logins.find(pod, container.image, found)
    unread = next((problem for problem in logins.problems if problem.unknown), None)
    if unread is not None:
        # Without it the image may not be had, and the machine would be paid for all the same.
        return NotNow("FailedToRetrieveImagePullSecret", unread.message, event="FailedToRetrieveImagePullSecret")
    return Prepared(
        pod=pod,
        wanted=wanted,
        env=resolved.env,
        command=references.expand(container.command, resolved.env) or (),
        args=references.expand(container.args, resolved.env) or (),
        login=logins.best,
        problems=resolved.problems,
        login_problems=logins.problems,
    )


def _of_daemon_set(pod: pods.Pod) -> bool:
    return any(owner.kind == "DaemonSet" and owner.controller for owner in pod.metadata.owner_references or ())
