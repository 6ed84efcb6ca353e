"""What goes onto a rented machine for its pod: the launch document and the files of its volumes.

Reads what they are made of (ConfigMaps, Secrets, tokens, the image's config); `workload` says what they mean, and the
session brings them there. Nothing that it gathers goes through a cloud.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bareboat.access import documents
from bareboat.kube import client as clients
from bareboat.kube import errors as kube_errors
from bareboat.node import pod_inputs
from bareboat.plumbing import clock as clocks
from bareboat.registry import client as registries
from bareboat.registry import configs, errors
from bareboat.workload import pod as pods
from bareboat.workload import references, registry_logins, sources, ssh_launch, volume_files

TOKEN_AGAIN_S = 10.0
DEFAULT_ACCOUNT = "default"
Tokens = Mapping[volume_files.TokenRequest, volume_files.Token]


@dataclass(frozen=True, slots=True)
class NotReady:
    """What is missing: `reason` and `message` of the waiting containers, `event` the Event's reason. `lasting`: only a
    change of the pod or its image helps."""

    reason: str
    message: str
    event: str
    lasting: bool = False
    problems: tuple[references.Problem, ...] = ()
    registry_away: bool = False
    """Nobody could be asked what the image starts."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """`refresh_s`: unix seconds at which a token wants to be replaced; None without tokens."""

    launch: documents.Launch = field(repr=False)
    files: volume_files.Files = field(repr=False)
    image: configs.Image
    problems: tuple[references.Problem, ...] = ()
    refresh_s: float | None = None


class Deliveries:
    """For all pods of a node."""

    def __init__(
        self,
        client: clients.Client,
        inputs: pod_inputs.PodInputs,
        images: registries.Registries,
        facts: sources.NodeFacts,
        clock: clocks.Clock,
    ) -> None:
        self._client = client
        self._inputs = inputs
        self._images = images
        self._facts = facts
        self._clock = clock
        self._tokens: dict[tuple[str, volume_files.TokenRequest], volume_files.Token] = {}

    async def check(self, pod: pods.Pod) -> Delivery | NotReady:
        """As `make`, before anything is rented: whether all is there. Asks for no token."""
        now_s = self._clock.now_s()
        stand_in = volume_files.Token("", now_s, now_s + volume_files.TOKEN_LIFE_S)
        tokens = {each.request: stand_in for each in volume_files.tokens(pod)}
        return await self._gather(pod, tokens, "0")

    async def make(self, pod: pods.Pod, attempt: str) -> Delivery | NotReady:
        """Everything, as it stands now. Costs a call for each object and token that is not fresh."""
        try:
            tokens = await self._fresh_tokens(pod)
        except kube_errors.KubeError as problem:
            account = pod.spec.service_account_name or DEFAULT_ACCOUNT
            message = f"no token for service account {pod.key[0]}/{account} could be had: {problem}"
            return NotReady("ContainerCreating", message, "FailedMount")
        return await self._gather(pod, tokens, attempt)

    def forget(self, uid: str) -> None:
        """The pod is gone, and its tokens with it."""
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]

    async def _gather(self, pod: pods.Pod, tokens: Tokens, attempt: str) -> Delivery | NotReady:
        found = await self._inputs.fetch(pod, also=volume_files.references_of(pod))
        logins = registry_logins.find(pod, pod.spec.containers[0].image, found)
        try:
            image = await self._images.image(pod.spec.containers[0].image, logins=logins.fitting)
        except (errors.RegistryDown, errors.Throttled) as problem:
            if not _says_all(pod):
                return NotReady(problem.reason, str(problem), "Failed", registry_away=True)
            # The pod says itself what to run; the machine may well reach the registry.
            image = configs.Image(pod.spec.containers[0].image, "")
        except errors.RegistryError as problem:
            final = isinstance(problem, errors.BadReference | errors.WrongPlatform)
            return NotReady(problem.reason, str(problem), "Failed", lasting=final)
        known = ssh_launch.Known(image=image, found=found, node=self._facts)
        built = ssh_launch.build(pod, known, attempt=attempt)
        if built.launch is None:
            blocking = built.blocking
            assert blocking is not None
            return NotReady(blocking.reason, blocking.message, "Failed", blocking.lasting, built.told)
        files = volume_files.build(pod, found, self._facts, tokens)
        if files.blocking is not None:
            problems = (*built.told, *files.problems)
            return NotReady(
                "ContainerCreating", files.blocking.message, "FailedMount", files.blocking.lasting, problems
            )
        refresh_s = min((each.refresh_s for each in tokens.values()), default=None)
        return Delivery(built.launch, files.files, image, (*built.told, *files.problems), refresh_s)

    async def _fresh_tokens(self, pod: pods.Pod) -> Tokens:
        now_s = self._clock.now_s()
        found: dict[volume_files.TokenRequest, volume_files.Token] = {}
        for request in {each.request for each in volume_files.tokens(pod)}:
            token = self._tokens.get((pod.metadata.uid, request))
            if token is None or token.refresh_s <= now_s:
                token = await self._token(pod, request, token)
                self._tokens[(pod.metadata.uid, request)] = token
            found[request] = token
        return found

    async def _token(
        self, pod: pods.Pod, request: volume_files.TokenRequest, old: volume_files.Token | None
    ) -> volume_files.Token:
        """A new one; the old one as long as it is good, when none can be had."""
        now_s = self._clock.now_s()
        try:
            made = await self._client.token(
                pod.key[0],
                pod.spec.service_account_name or DEFAULT_ACCOUNT,
                # A life of 3607 s is the API server's word for a year.
                expiration_s=max(600, request.life_s) if request.life_s != 3607 else 3600,
                audiences=(request.audience,) if request.audience else (),
                pod=pod.key[1],
                pod_uid=pod.metadata.uid,
            )
        except kube_errors.KubeError:
            if old is None or old.expires_s <= now_s:
                raise
            return volume_files.Token(old.text, now_s - (old.expires_s - now_s), old.expires_s)
        expires = datetime.fromisoformat(made.expiration_timestamp).astimezone(UTC).timestamp()
        return volume_files.Token(made.token, now_s, expires)


def _says_all(pod: pods.Pod) -> bool:
    return all(each.command for each in (*pod.spec.init_containers, *pod.spec.containers))
