"""Kubeconfig files for one API server: as a client certificate, or as the bearer of a token. Files have mode 0600."""

import base64
from pathlib import Path
from typing import Any

import yaml

from bareboat.sandbox import pki


def for_certificate(path: Path, *, url: str, authority_path: Path, pair: pki.KeyPair, name: str) -> Path:
    """Writes a kubeconfig with everything inline, so that the file may be moved away from the sandbox's folder."""
    user = {
        "client-certificate-data": _inline(pair.certificate_path),
        "client-key-data": _inline(pair.key_path),
    }
    return _write(path, url=url, authority_path=authority_path, name=name, user=user)


def for_token(path: Path, *, url: str, authority_path: Path, token: str, name: str) -> Path:
    """Writes a kubeconfig that carries `token`, such as that of a ServiceAccount."""
    return _write(path, url=url, authority_path=authority_path, name=name, user={"token": token})


def _write(path: Path, *, url: str, authority_path: Path, name: str, user: dict[str, str]) -> Path:
    cluster = {"server": url, "certificate-authority-data": _inline(authority_path)}
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    pki.write_private(path, yaml.safe_dump(content, sort_keys=False).encode())
    return path


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
