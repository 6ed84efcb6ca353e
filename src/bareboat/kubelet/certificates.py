"""Keys, certificate requests and a self-signed stand-in for the serving certificate. Pure but for the randomness."""

import datetime
import ipaddress
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bareboat.kubelet import tls

ORGANIZATION = "system:nodes"
SELF_SIGNED_LIFETIME = datetime.timedelta(days=365)


@dataclass(frozen=True)
class Names:
    """Under what the apiserver and others dial this node. At least one of either."""

    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    """IP addresses."""

    def general(self) -> list[x509.GeneralName]:
        return [
            *(x509.DNSName(name) for name in sorted(set(self.dns))),
            *(x509.IPAddress(ipaddress.ip_address(text)) for text in sorted(set(self.addresses))),
        ]


@dataclass(frozen=True)
class Request:
    """A certificate request and the key that belongs to it."""

    csr_pem: bytes
    key_pem: bytes


def common_name(node_name: str) -> str:
    return f"system:node:{node_name}"


def request(node_name: str, names: Names) -> Request:
    """A new key (EC P-256) and a request as the signer kubernetes.io/kubelet-serving wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(node_name))
        .add_extension(x509.SubjectAlternativeName(names.general()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Request(csr.public_bytes(serialization.Encoding.PEM), _pem_of_key(key))


def self_signed(node_name: str, names: Names, now: datetime.datetime) -> tls.KeyChain:
    """Good for /healthz and for an apiserver that does not verify; one that does refuses it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(node_name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + SELF_SIGNED_LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names.general()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return tls.KeyChain(certificate.public_bytes(serialization.Encoding.PEM), _pem_of_key(key))


def lifetime_s(certificate_pem: bytes) -> tuple[float, float]:
    """(not before, not after) of the first certificate, Unix seconds. Raises `tls.BadCertificate`."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise tls.BadCertificate(f"the serving certificate is no readable PEM certificate ({error})") from error
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def mismatch(csr_pem: bytes, node_name: str, names: Names) -> str | None:
    """Why this request is not exactly one for this node under these names; None when it is."""
    csr = x509.load_pem_x509_csr(csr_pem)
    with _long_names():
        subject = csr.subject
    if subject != _subject(node_name):
        return f"its subject is {subject.rfc4514_string()!r}, not that of node {node_name!r}"
    found: Sequence[x509.GeneralName] = []
    for extension in csr.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            found = list(extension.value)
    if set(found) != set(names.general()):
        return f"its names are {sorted(str(name.value) for name in found)}, not those of node {node_name!r}"
    return None if csr.is_signature_valid else "its signature is wrong"


def _subject(node_name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION)
    with _long_names():
        name = x509.NameAttribute(NameOID.COMMON_NAME, common_name(node_name), _validate=False)
    return x509.Name([organization, name])


@contextmanager
def _long_names() -> Iterator[None]:
    """X.509 allows a common name 64 characters and a node name may have 253: Kubernetes takes longer ones, so do we."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Attribute's length must be", category=UserWarning)
        yield


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
