"""Certificates say what the API server reads from them, and keys are for their owner only."""

import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bareboat.sandbox import components, pki


@pytest.fixture
def authority(tmp_path: Path) -> pki.Authority:
    return pki.create_authority(tmp_path, "ca")


def load(pair: pki.KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate_path.read_bytes())


def test_client_certificate_names_user_and_groups(authority: pki.Authority) -> None:
    certificate = load(authority.issue_client("node", "system:node:a", ["system:nodes", "extra"]))
    subject = certificate.subject
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:a"]
    groups = [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    assert groups == ["system:nodes", "extra"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(authority.certificate)


def test_server_certificate_is_valid_for_its_names_and_addresses(authority: pki.Authority) -> None:
    pair = authority.issue_server("server", "kube-apiserver", ["localhost", "127.0.0.1"])
    names = load(pair).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]


def test_certificate_and_key_belong_together(authority: pki.Authority) -> None:
    pair = authority.issue_client("user", "somebody")
    key = serialization.load_pem_private_key(pair.key_path.read_bytes(), password=None)
    assert key.public_key() == load(pair).public_key()


def test_an_authority_read_back_signs_for_the_same_root(authority: pki.Authority, tmp_path: Path) -> None:
    again = pki.load_authority(tmp_path, "ca")
    load(again.issue_client("late", "late-comer")).verify_directly_issued_by(authority.certificate)


def test_every_private_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    components.create_credentials(tmp_path)
    keys = list(tmp_path.glob("*.key"))
    assert len(keys) == 9
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_the_front_proxy_is_signed_by_an_authority_of_its_own(tmp_path: Path) -> None:
    credentials = components.create_credentials(tmp_path)
    certificate = load(credentials.front_proxy)
    certificate.verify_directly_issued_by(credentials.front_proxy_authority.certificate)
    with pytest.raises(ValueError, match=r"(?i)issuer"):
        certificate.verify_directly_issued_by(credentials.authority.certificate)
