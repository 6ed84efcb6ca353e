"""A kubeconfig stands alone: it can be moved, and only its owner can read it."""

import base64
import stat
from pathlib import Path
from typing import Any

import yaml

from bareboat.sandbox import kubeconfigs, pki

URL = "https://127.0.0.1:20001"


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def test_certificate_kubeconfig_holds_everything_inline(tmp_path: Path) -> None:
    authority = pki.create_authority(tmp_path, "ca")
    pair = authority.issue_client("admin", "admin")
    path = kubeconfigs.for_certificate(
        tmp_path / "kubeconfig", url=URL, authority_path=authority.certificate_path, pair=pair, name="box"
    )
    content = read(path)
    cluster = content["clusters"][0]["cluster"]
    user = content["users"][0]["user"]
    assert cluster["server"] == URL
    assert base64.b64decode(cluster["certificate-authority-data"]) == authority.certificate_path.read_bytes()
    assert base64.b64decode(user["client-certificate-data"]) == pair.certificate_path.read_bytes()
    assert base64.b64decode(user["client-key-data"]) == pair.key_path.read_bytes()
    assert content["current-context"] == content["contexts"][0]["name"] == "box"


def test_token_kubeconfig_carries_the_token_and_no_certificate(tmp_path: Path) -> None:
    authority = pki.create_authority(tmp_path, "ca")
    path = kubeconfigs.for_token(
        tmp_path / "kubeconfig", url=URL, authority_path=authority.certificate_path, token="abc.def", name="box"
    )
    assert read(path)["users"] == [{"name": "box", "user": {"token": "abc.def"}}]


def test_a_kubeconfig_is_private_even_when_it_replaces_one_that_was_not(tmp_path: Path) -> None:
    authority = pki.create_authority(tmp_path, "ca")
    path = tmp_path / "kubeconfig"
    path.write_text("old")
    path.chmod(0o644)
    kubeconfigs.for_token(path, url=URL, authority_path=authority.certificate_path, token="t", name="box")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
