"""Keeps the kubelet API's serving certificate good: asked of the cluster and renewed, or read from a pair of files.

Owns when to ask, the watch over the node's names, and the (optional) approval of its own requests. New connections get
the new certificate; those that live keep theirs. Until one is issued a self-signed one is shown, and that is said.
"""

import asyncio
import base64
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from bareboat.kube import errors, objects, resources
from bareboat.kubelet import certificates, tls
from bareboat.plumbing import backoff, supervise
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

SIGNER = "kubernetes.io/kubelet-serving"
# Exactly these for a key that can't encipher (ours is EC); the signer refuses any other set.
USAGES = ("digital signature", "server auth")
RENEW_AT = 0.8
CHECK_S = 10.0
NAMES_CHECK_S = 2.0
ISSUE_TIMEOUT_S = 15 * 60.0
_REQUESTS = resources.CERTIFICATE_SIGNING_REQUESTS
_WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclass(frozen=True)
class Settings:
    """Either both files, or none: then the certificate is asked of the cluster."""

    certificate_file: Path | None = None
    key_file: Path | None = None
    approve_own: bool = False
    """Approve own requests. Needs the right to approve for the signer, which is a right to mint a certificate for any
    node: leave it off where something else approves."""
    lifetime_s: int | None = None
    """Asked of the signer, at least 600; None leaves it to the signer."""

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("a serving certificate file and its key file belong together: name both or none")
        if self.lifetime_s is not None and self.lifetime_s < 600:
            raise ValueError(f"lifetime of the serving certificate is {self.lifetime_s} s; at least 600 is allowed")


class Api(Protocol):
    """What is needed of `kube.client.Client`."""

    async def get(self, path: str, *, type: type["SigningRequest"]) -> "SigningRequest": ...

    async def create(self, path: str, body: Mapping[str, Any]) -> bytes: ...

    async def replace(self, path: str, body: Mapping[str, Any]) -> bytes: ...


class NotIssued(Exception):
    """No certificate this time. The text says why; ask again later."""


class Condition(objects.Partial, frozen=True):
    type: str
    status: str = "True"
    reason: str = ""
    message: str = ""


class SigningRequestSpec(objects.Partial, frozen=True):
    request: str
    signer_name: str
    usages: list[str] | None = None
    username: str = ""
    expiration_seconds: int | None = None


class SigningRequestStatus(objects.Partial, frozen=True):
    conditions: list[Condition] | None = None
    certificate: str = ""


class SigningRequest(objects.Partial, frozen=True):
    """A CertificateSigningRequest."""

    metadata: objects.ObjectMeta
    spec: SigningRequestSpec
    status: SigningRequestStatus = SigningRequestStatus()


class _WhoAmI(msgspec.Struct):
    class Status(msgspec.Struct):
        class User(msgspec.Struct):
            username: str

        userInfo: User

    status: Status


class ServingCertificate:
    """One node's serving certificate. `tls` can listen at once; `run` then keeps its certificate good."""

    def __init__(
        self,
        api: Api,
        node_name: str,
        names: Callable[[], certificates.Names],
        settings: Settings,
        clock: clocks.Clock,
    ) -> None:
        """`names` is asked every few seconds; a change has a new certificate asked for. Reads the files if there are
        any, and raises `supervise.Fatal` when they can't be used."""
        self._api = api
        self._node_name = node_name
        self._names = names
        self._settings = settings
        self._clock = clock
        self._shown_for = names()
        self._files_seen: tuple[int, ...] | None = None
        self.issued = asyncio.Event()
        """Set once a certificate of the cluster's or from files is shown, not a self-signed one."""
        if settings.certificate_file is not None:
            try:
                self.tls = tls.Tls(self._read_files())
            except (OSError, tls.BadCertificate) as error:
                raise supervise.Fatal(
                    f"the serving certificate can't be read from {settings.certificate_file} and"
                    f" {settings.key_file}: {error}",
                    exit_code=2,
                ) from error
            self.issued.set()
        else:
            now = datetime.fromtimestamp(clock.now_s(), UTC)
            self.tls = tls.Tls(certificates.self_signed(node_name, self._shown_for, now))

    async def run(self) -> None:
        """Never returns."""
        if self._settings.certificate_file is not None:
            await self._follow_files()
        log.warning(
            "kubelet.self_signed",
            node=self._node_name,
            hint="an apiserver that verifies kubelets refuses it; logs work once the requested certificate is issued",
        )
        pause = backoff.Backoff(5.0, 600.0)
        while True:
            try:
                chain = await self._obtain()
            except (NotIssued, errors.KubeError) as failure:
                wait_s = pause.next_s()
                log.warning("kubelet.certificate_not_issued", why=str(failure), again_in_s=round(wait_s))
                await self._clock.sleep(wait_s)
                continue
            pause.reset()
            self.tls.present(chain)
            self.issued.set()
            not_before_s, not_after_s = certificates.lifetime_s(chain.certificate_pem)
            # Spread, so that nodes started together do not all come at once.
            share = RENEW_AT + random.uniform(-0.05, 0.05)
            renew_at_s = not_before_s + (not_after_s - not_before_s) * share
            log.info("kubelet.certificate_issued", node=self._node_name, not_after=_when(not_after_s))
            await self._until_due(renew_at_s)

    async def _until_due(self, renew_at_s: float) -> None:
        while self._clock.now_s() < renew_at_s:
            if self._names() != self._shown_for:
                log.info("kubelet.names_changed", node=self._node_name, names=self._names())
                return
            await self._clock.sleep(min(NAMES_CHECK_S, max(renew_at_s - self._clock.now_s(), 0.1)))

    async def _obtain(self) -> tls.KeyChain:
        """Asks, approves if it may, waits. Raises `NotIssued` or a `kube.errors.KubeError`."""
        names = self._names()
        if not names.general():
            raise NotIssued(f"node {self._node_name!r} has no address yet to be named in its certificate")
        wanted = certificates.request(self._node_name, names)
        answer = await self._api.create(_REQUESTS.path(), self._manifest(wanted.csr_pem))
        name = msgspec.json.decode(answer, type=SigningRequest).metadata.name
        if self._settings.approve_own:
            await self._approve(name, wanted, names)
        else:
            log.info("kubelet.certificate_requested", request=name, approve=f"kubectl certificate approve {name}")
        certificate_pem = await self._issued(name, names)
        self._shown_for = names
        return tls.KeyChain(certificate_pem, wanted.key_pem)

    def _manifest(self, csr_pem: bytes) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "request": base64.b64encode(csr_pem).decode(),
            "signerName": SIGNER,
            "usages": list(USAGES),
        }
        if self._settings.lifetime_s is not None:
            spec["expirationSeconds"] = self._settings.lifetime_s
        return {
            "apiVersion": _REQUESTS.api_version,
            "kind": _REQUESTS.kind,
            "metadata": {"generateName": f"{self._node_name[:200]}-serving-"},
            "spec": spec,
        }

    async def _approve(self, name: str, wanted: certificates.Request, names: certificates.Names) -> None:
        """Approves what the API server holds under `name`, after comparing it with what was asked and by whom."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        whoami = msgspec.json.decode(await self._api.create(_WHOAMI, body), type=_WhoAmI)
        held = await self._api.get(_REQUESTS.path(name=name), type=SigningRequest)
        objection = _objection(held, wanted, self._node_name, names, whoami.status.userInfo.username)
        if objection is not None:
            raise NotIssued(f"certificate request {name} is not approved: {objection}")
        manifest = self._manifest(wanted.csr_pem)
        manifest["metadata"] = {
            "name": name,
            "uid": held.metadata.uid,
            "resourceVersion": held.metadata.resource_version,
        }
        approved = {
            "type": "Approved",
            "status": "True",
            "reason": "OwnServingCertificate",
            "message": "Subject, names and requester are those of this node.",
        }
        manifest["status"] = {"conditions": [approved]}
        await self._api.replace(_REQUESTS.path(name=name, subresource="approval"), manifest)

    async def _issued(self, name: str, names: certificates.Names) -> bytes:
        pause = backoff.Backoff(0.1, 10.0)
        give_up_s = self._clock.monotonic_s() + ISSUE_TIMEOUT_S
        while self._clock.monotonic_s() < give_up_s:
            held = await self._api.get(_REQUESTS.path(name=name), type=SigningRequest)
            for condition in held.status.conditions or ():
                if condition.type in ("Denied", "Failed"):
                    raise NotIssued(
                        f"certificate request {name} is {condition.type}: {condition.reason} {condition.message}"
                    )
            if held.status.certificate:
                return base64.b64decode(held.status.certificate)
            if self._names() != names:
                raise NotIssued(f"the node's names changed while certificate request {name} was pending")
            await self._clock.sleep(pause.next_s())
        raise NotIssued(
            f"nobody approved certificate request {name} within {ISSUE_TIMEOUT_S / 60:.0f} minutes:"
            f" `kubectl certificate approve {name}`, or let the node approve its own"
        )

    async def _follow_files(self) -> None:
        while True:
            await self._clock.sleep(CHECK_S)
            try:
                if await asyncio.to_thread(self._stamp) == self._files_seen:
                    continue
                self.tls.present(await asyncio.to_thread(self._read_files))
            except (OSError, tls.BadCertificate) as failure:
                # Half of a pair may have been written so far; the old pair goes on until both are good.
                log.warning("kubelet.certificate_files_unusable", why=str(failure))
            else:
                log.info("kubelet.certificate_reloaded", file=str(self._settings.certificate_file))

    def _stamp(self) -> tuple[int, ...]:
        certificate, key = self._settings.certificate_file, self._settings.key_file
        assert certificate is not None and key is not None
        return tuple(number for path in (certificate, key) for number in _identity(path))

    def _read_files(self) -> tls.KeyChain:
        certificate, key = self._settings.certificate_file, self._settings.key_file
        assert certificate is not None and key is not None
        stamp = self._stamp()
        chain = tls.KeyChain(certificate.read_bytes(), key.read_bytes())
        self._files_seen = stamp
        return chain


def _identity(path: Path) -> tuple[int, int, int]:
    # Secrets mounted into a pod are swapped by a symlink: the inode changes even when size and time do not.
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _objection(
    held: SigningRequest, wanted: certificates.Request, node_name: str, names: certificates.Names, requester: str
) -> str | None:
    spec = held.spec
    if spec.username != requester:
        return f"it was made by {spec.username!r}, not by {requester!r}"
    if spec.signer_name != SIGNER or set(spec.usages or ()) != set(USAGES):
        return f"it asks {spec.signer_name!r} for {spec.usages}"
    csr_pem = base64.b64decode(spec.request)
    if csr_pem != wanted.csr_pem:
        return "it is not the request that was sent"
    return certificates.mismatch(csr_pem, node_name, names)


def _when(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()
