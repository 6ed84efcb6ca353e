"""Everything that has to be right about a pod before a search for offers makes sense."""

from dataclasses import dataclass, field

from bareboat.core import launches, needs, offers
from bareboat.node import deliveries, parts
from bareboat.workload import access as accesses
from bareboat.workload import annotations as notes
from bareboat.workload import launch as launching
from bareboat.workload import needs as wants
from bareboat.workload import pod as pods
from bareboat.workload import references, registry_logins

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
    access: accesses.Choice
    env: dict[str, str] = field(repr=False)
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    login: launches.RegistryLogin | None = None
    problems: tuple[references.Problem, ...] = ()
    login_problems: tuple[registry_logins.Problem, ...] = ()
    public_keys: tuple[str, ...] = ()

    def launch(self, offer: offers.Offer, attempt: str) -> launches.Launch:
        if self.access.access is accesses.Access.SSH:
            return launching.build_for_ssh(
                self.pod, login=self.login, wanted=self.wanted, offer=offer, public_keys=self.public_keys
            )
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
    return None


def choose_access(pod: pods.Pod, use: parts.Parts, obstacles: tuple[str, ...] = ()) -> accesses.Choice | NotNow:
    """Which way the pod is run. `obstacles` are what earlier attempts of this pod met with in ssh access. Pure."""
    try:
        if use.ssh is None:
            here = ("this node has no ssh access",)
            choice = accesses.choose(pod, accesses.Access.PLAIN, obstacles=here)
        else:
            choice = accesses.choose(pod, use.ssh.default, obstacles=(*use.ssh.obstacles(), *obstacles))
    except notes.Invalid as nonsense:
        return NotNow("InvalidPod", str(nonsense), lasting=True, event="InvalidPod")
    if choice.refused:
        why = f"nothing is rented for this pod: {choice.refused}"
        return NotNow("Unsupported", why, lasting=use.ssh is None or not use.ssh.obstacles(), event="Unsupported")
    return choice


def most_usd_per_hour(pod: pods.Pod, use: parts.Parts) -> float | None:
    """The pod's own limit as it stands now; None when it says nonsense, which ends nothing that runs."""
    try:
        return wants.from_pod(pod, use.defaults).max_usd_per_hour
    except notes.Invalid:
        return None


async def prepare(pod: pods.Pod, use: parts.Parts, obstacles: tuple[str, ...] = ()) -> Prepared | NotNow:
    """Reads what the pod refers to: one call per object, shared for seconds; none for a pod that refers to nothing. In
    ssh access its image's config as well, so that nothing is rented for an image that can't be had."""
    refused = eligible(pod, use.rents_for)
    if refused is not None:
        return refused
    try:
        wanted = wants.from_pod(pod, use.defaults)
        launching.reports_exit_code(pod)
    except notes.Invalid as nonsense:
        return NotNow("InvalidPod", str(nonsense), lasting=True, event="InvalidPod")
    choice = choose_access(pod, use, obstacles)
    if isinstance(choice, NotNow):
        return choice
    found = await use.inputs.fetch(pod)
    container = pod.spec.containers[0]
    if choice.access is accesses.Access.SSH and use.ssh is not None:
        logins = registry_logins.find(pod, container.image, found)
        prepared = await _for_ssh(pod, use.ssh, wanted, choice, logins)
        if not isinstance(prepared, deliveries.NotReady):
            return prepared
        choice = choose_access(pod, use, (*obstacles, prepared.message))
        if isinstance(choice, NotNow):
            return NotNow(prepared.reason, prepared.message, event=prepared.event)
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
        access=choice,
    )


async def _for_ssh(
    pod: pods.Pod,
    ssh: parts.SshAccess,
    wanted: needs.Needs,
    choice: accesses.Choice,
    logins: registry_logins.Logins,
) -> Prepared | NotNow | deliveries.NotReady:
    """NotReady when only the image's registry lacks: plain access can do without."""
    checked = await ssh.deliveries.check(pod)
    if isinstance(checked, deliveries.NotReady) and checked.registry_away:
        return checked
    if isinstance(checked, deliveries.NotReady):
        # An Event is told for what blocks; the rest of the problems come with a message of their own.
        return NotNow(
            checked.reason, checked.message, lasting=checked.lasting, event=checked.event, problems=checked.problems
        )
    return Prepared(
        pod=pod,
        wanted=wanted,
        env={},
        login=logins.best,
        problems=checked.problems,
        login_problems=logins.problems,
        access=choice,
        public_keys=ssh.key.public_keys,
    )


def _of_daemon_set(pod: pods.Pod) -> bool:
    return any(owner.kind == "DaemonSet" and owner.controller for owner in pod.metadata.owner_references or ())
