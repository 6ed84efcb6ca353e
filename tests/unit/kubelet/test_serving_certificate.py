"""How the serving certificate is asked for, approved, renewed and read from files."""

import asyncio
import base64
import datetime
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.unit.kubelet import serving

from bareboat.kube import errors
from bareboat.kubelet import certificates, client_ca, serving_certificate, tls
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise

T = TypeVar("T")
NAMES = certificates.Names(dns=("virt-1",), addresses=("10.0.0.7",))
ME = "system:serviceaccount:bareboat:node"


class Signer:
    """Plays the API server and its signer: one request at a time, issued once approved."""

    def __init__(self, clock: clocks.Clock) -> None:
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.requests: list[dict[str, Any]] = []
        self.approvals: list[dict[str, Any]] = []
        self.conditions: list[dict[str, Any]] = []
        self.failures: list[errors.KubeError] = []
        self.lifetime_s = 3600.0
        self.whoami = ME
        self.change: Callable[[dict[str, Any]], None] = lambda held: None

    async def create(self, path: str, body: Mapping[str, Any]) -> bytes:
        if self.failures:
            raise self.failures.pop(0)
        if body["kind"] == "SelfSubjectReview":
            return json.dumps({"status": {"userInfo": {"username": self.whoami, "groups": []}}}).encode()
        held = msgspec.json.decode(msgspec.json.encode(body))
        held["metadata"] = {"name": f"csr-{len(self.requests)}", "uid": "u", "resourceVersion": "1"}
        held["spec"]["username"] = ME
        self.change(held)
        self.requests.append(held)
        self.conditions = []
        return msgspec.json.encode(held)

    async def get(self, path: str, *, type: type[T]) -> T:
        held = self.requests[-1]
        assert path.endswith(held["metadata"]["name"])
        approved = any(condition["type"] == "Approved" for condition in self.conditions)
        status = {"conditions": self.conditions, "certificate": self._issue(held) if approved else ""}
        return msgspec.convert({**held, "status": status}, type)

    async def replace(self, path: str, body: Mapping[str, Any]) -> bytes:
        assert path.endswith(self.requests[-1]["metadata"]["name"] + "/approval")
        self.approvals.append(dict(body))
        self.conditions = body["status"]["conditions"]
        return b"{}"

    def _issue(self, held: Mapping[str, Any]) -> str:
        csr = x509.load_pem_x509_csr(base64.b64decode(held["spec"]["request"]))
        now = datetime.datetime.fromtimestamp(self._clock.now_s(), datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")]))
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(seconds=self.lifetime_s))
            .sign(self._key, hashes.SHA256())
        )
        return base64.b64encode(certificate.public_bytes(serialization.Encoding.PEM)).decode()


class Node:
    """A serving certificate being kept, with a signer and a clock that the test moves."""

    def __init__(self, settings: serving_certificate.Settings) -> None:
        self.clock = clocks.ManualClock()
        self.signer = Signer(self.clock)
        self.names = NAMES
        self.certificate = serving_certificate.ServingCertificate(
            self.signer, "virt-1", lambda: self.names, settings, self.clock
        )

    @property
    def shown(self) -> bytes:
        return self.certificate.tls.chain.certificate_pem


@asynccontextmanager
async def kept(settings: serving_certificate.Settings | None = None) -> AsyncIterator[Node]:
    node = Node(settings or serving_certificate.Settings(approve_own=True))
    task = asyncio.create_task(node.certificate.run(), name="test.serving-certificate")
    try:
        await node.clock.advance(0)
        yield node
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_request_is_what_the_signer_wants() -> None:
    async with kept(serving_certificate.Settings(lifetime_s=3600)) as node:
        spec = node.signer.requests[0]["spec"]
    assert spec["signerName"] == "kubernetes.io/kubelet-serving"
    assert spec["usages"] == ["digital signature", "server auth"]
    assert spec["expirationSeconds"] == 3600
    csr = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    assert csr.subject.rfc4514_string() == "CN=system:node:virt-1,O=system:nodes"
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["virt-1", "10.0.0.7"]
    assert len(csr.extensions) == 1


async def test_until_one_is_issued_a_self_signed_one_is_shown() -> None:
    async with kept(serving_certificate.Settings()) as node:
        await node.clock.advance(30)
        shown = x509.load_pem_x509_certificate(node.shown)
        assert shown.issuer == shown.subject
        assert not node.certificate.issued.is_set()
        node.signer.conditions = [{"type": "Approved"}]
        await node.clock.advance(30)
        assert node.certificate.issued.is_set()
        assert x509.load_pem_x509_certificate(node.shown).issuer.rfc4514_string() == "CN=signer"
        assert not node.signer.approvals


async def test_an_own_request_is_approved_with_the_uid_and_version_that_were_compared() -> None:
    async with kept() as node:
        await node.clock.advance(1)
        assert node.certificate.issued.is_set()
    (approval,) = node.signer.approvals
    assert approval["metadata"] == {"name": "csr-0", "uid": "u", "resourceVersion": "1"}
    assert approval["status"]["conditions"][0]["type"] == "Approved"


def _another_key(held: dict[str, Any]) -> None:
    held["spec"]["request"] = base64.b64encode(certificates.request("virt-1", NAMES).csr_pem).decode()


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held["spec"].update(username="system:serviceaccount:other:sa"),
        lambda held: held["spec"].update(signerName="kubernetes.io/kube-apiserver-client"),
        lambda held: held["spec"].update(usages=["digital signature", "server auth", "client auth"]),
        _another_key,
    ],
)
async def test_a_request_that_is_not_exactly_ours_is_not_approved(change: Callable[[dict[str, Any]], None]) -> None:
    node = Node(serving_certificate.Settings(approve_own=True))
    node.signer.change = change
    task = asyncio.create_task(node.certificate.run(), name="test.serving-certificate")
    await node.clock.advance(600)
    assert node.signer.requests
    assert not node.signer.approvals
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize(
    "node_name, names, says",
    [
        ("virt-1", NAMES, None),
        ("virt-2", NAMES, "its subject"),
        ("virt-1", certificates.Names(dns=("virt-1",)), "its names"),
        ("virt-1", certificates.Names(dns=("virt-1", "kubernetes"), addresses=("10.0.0.7",)), "its names"),
    ],
)
def test_subject_and_names_of_a_request_are_compared(
    node_name: str, names: certificates.Names, says: str | None
) -> None:
    objection = certificates.mismatch(certificates.request("virt-1", NAMES).csr_pem, node_name, names)
    assert objection is None if says is None else objection is not None and objection.startswith(says)


def test_the_longest_node_name_gets_a_request_too() -> None:
    name = ".".join(["n" * 60] * 4)
    assert certificates.mismatch(certificates.request(name, NAMES).csr_pem, name, NAMES) is None
    tls.Tls(certificates.self_signed(name, NAMES, datetime.datetime.now(datetime.UTC)))


async def test_a_certificate_is_renewed_at_four_fifths_of_its_life() -> None:
    async with kept() as node:
        await node.clock.advance(1)
        first = node.shown
        await node.clock.advance(0.74 * 3600)
        assert node.shown == first
        await node.clock.advance(0.12 * 3600)
        assert node.shown != first
        assert len(node.signer.requests) == 2


async def test_a_new_address_gets_a_new_certificate_within_seconds() -> None:
    async with kept() as node:
        await node.clock.advance(1)
        node.names = certificates.Names(dns=("virt-1",), addresses=("10.0.0.8",))
        await node.clock.advance(serving_certificate.NAMES_CHECK_S + 1)
        csr = x509.load_pem_x509_csr(base64.b64decode(node.signer.requests[-1]["spec"]["request"]))
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(name.value) for name in names] == ["virt-1", "10.0.0.8"]


async def test_a_denied_request_is_made_anew_later_and_the_old_certificate_goes_on() -> None:
    async with kept(serving_certificate.Settings()) as node:
        before = node.shown
        node.signer.conditions = [{"type": "Denied", "reason": "No", "message": "not here"}]
        await node.clock.advance(3)
        assert len(node.signer.requests) == 1
        await node.clock.advance(15)
        assert len(node.signer.requests) == 2
        assert node.shown == before


async def test_an_api_server_out_of_reach_is_asked_again() -> None:
    node = Node(serving_certificate.Settings(approve_own=True))
    node.signer.failures = [errors.Unreachable("no route"), errors.Timeout("no answer")]
    task = asyncio.create_task(node.certificate.run(), name="test.serving-certificate")
    await node.clock.advance(60)
    assert node.certificate.issued.is_set()
    task.cancel()
    await asyncio.wait([task])


async def test_a_node_without_names_asks_for_nothing() -> None:
    node = Node(serving_certificate.Settings(approve_own=True))
    node.names = certificates.Names()
    task = asyncio.create_task(node.certificate.run(), name="test.serving-certificate")
    await node.clock.advance(60)
    assert not node.signer.requests
    node.names = NAMES
    await node.clock.advance(60)
    assert node.certificate.issued.is_set()
    task.cancel()
    await asyncio.wait([task])


async def until(condition: Callable[[], bool], step: Callable[[], Awaitable[None]]) -> None:
    """Files are read in a thread, so that moving the clock alone does not see it done."""
    async with asyncio.timeout(10):
        while not condition():
            await step()
            await asyncio.sleep(0.01)


async def test_a_pair_of_files_is_served_and_followed(tmp_path: Path) -> None:
    ca = trustme.CA()
    settings = serving_certificate.Settings(tmp_path / "tls.crt", tmp_path / "tls.key")
    first, second = serving.chain(ca, "virt-1"), serving.chain(ca, "virt-1")
    (tmp_path / "tls.crt").write_bytes(first.certificate_pem)
    (tmp_path / "tls.key").write_bytes(first.key_pem)
    async with kept(settings) as node:
        assert node.certificate.issued.is_set()
        assert node.shown == first.certificate_pem
        (tmp_path / "tls.crt").write_bytes(second.certificate_pem)
        for _ in range(5):
            await node.clock.advance(serving_certificate.CHECK_S)
            await asyncio.sleep(0.01)
        assert node.shown == first.certificate_pem
        (tmp_path / "tls.key").write_bytes(second.key_pem)
        await until(
            lambda: node.shown == second.certificate_pem, lambda: node.clock.advance(serving_certificate.CHECK_S)
        )
        assert not node.signer.requests


def test_a_missing_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(supervise.Fatal, match=f"can't be read from {tmp_path}/tls.crt .*No such file") as refused:
        Node(serving_certificate.Settings(tmp_path / "tls.crt", tmp_path / "tls.key"))
    assert refused.value.exit_code == 2


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="name both or none"):
        serving_certificate.Settings(certificate_file=Path("tls.crt"))
    with pytest.raises(ValueError, match="599 s; at least 600"):
        serving_certificate.Settings(lifetime_s=599)


class ConfigMaps:
    """Plays the API server with the one ConfigMap that publishes the client CA."""

    def __init__(self, bundle: str | None) -> None:
        self.bundle = bundle
        self.failure: errors.KubeError | None = None
        self.asked: list[str] = []

    async def get(self, path: str, *, type: type[T]) -> T:
        self.asked.append(path)
        if self.failure is not None:
            raise self.failure
        return msgspec.convert({"data": {} if self.bundle is None else {"client-ca-file": self.bundle}}, type)


async def test_the_client_ca_comes_from_the_cluster_and_is_followed() -> None:
    clock, api = clocks.ManualClock(), ConfigMaps("ca 1")
    trusted: list[str | None] = []
    task = asyncio.create_task(client_ca.keep(trusted.append, api, clock), name="test.client-ca")
    await clock.advance(1000)
    assert trusted == ["ca 1"]
    assert api.asked[0] == "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    api.failure = errors.Unreachable("no route")
    await clock.advance(1000)
    api.failure, api.bundle = None, "ca 2"
    await clock.advance(400)
    assert trusted == ["ca 1", "ca 2"]
    api.bundle = None
    await clock.advance(1000)
    assert trusted == ["ca 1", "ca 2"]
    task.cancel()
    await asyncio.wait([task])


async def test_the_client_ca_can_come_from_a_file(tmp_path: Path) -> None:
    clock, api = clocks.ManualClock(), ConfigMaps(None)
    trusted: list[str | None] = []
    file = tmp_path / "ca.crt"
    task = asyncio.create_task(client_ca.keep(trusted.append, api, clock, file=file), name="test.client-ca")
    await clock.advance(20)
    (tmp_path / "new").write_text("ca 1")
    # In one step, since a reader may come in between.
    (tmp_path / "new").rename(file)
    await until(lambda: trusted == ["ca 1"], lambda: clock.advance(client_ca.AGAIN_SOON_S))
    assert not api.asked
    task.cancel()
    await asyncio.wait([task])
