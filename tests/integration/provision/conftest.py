"""A namespace and a service for each test; the control plane is one for all."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Kubectl
from tests.integration.provision import stage

from bareboat.sandbox import controlplane


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """One in which pods can be made; deleted afterwards without waiting for it."""
    name = f"provision-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    give_up_s = time.monotonic() + 30
    while not kubectl("-n", name, "get", "serviceaccount", "default", "--ignore-not-found"):
        assert time.monotonic() < give_up_s, "the namespace got no ServiceAccount"
        time.sleep(0.05)
    yield name
    # Ordinary deletion leaves node ports taken for a while, and the next test wants them.
    kubectl("-n", name, "delete", "services,pods", "--all", "--grace-period=0", "--force")
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def serve(sandbox: controlplane.ControlPlane, tmp_path: Path) -> Iterator[Callable[..., stage.Service]]:
    """Starts a service with environment variables of the test's choice."""
    with ExitStack() as opened:

        def start(**settings: str) -> stage.Service:
            settings = {"KUBECONFIG": str(sandbox.kubeconfig_path), **settings}
            return opened.enter_context(stage.Service(tmp_path / f"{uuid.uuid4().hex[:6]}.log", **settings))

        yield start


@pytest.fixture
def service(serve: Callable[..., stage.Service], namespace: str) -> stage.Service:
    return serve(NAMESPACE=namespace)


@pytest.fixture
def left(kubectl: Kubectl, namespace: str) -> Callable[[], list[str]]:
    """Names of all that a provisioning has made in the namespace."""

    def names() -> list[str]:
        found: dict[str, Any] = json.loads(kubectl("-n", namespace, "get", "pods,services,secrets", "-o", "json"))
        return sorted(f"{each['kind']}/{each['metadata']['name']}" for each in found["items"])

    return names
