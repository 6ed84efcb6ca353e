"""What the sandbox's control plane really does: schedule, issue tokens, sign certificates, restrict nodes."""

import json

from tests.integration import conftest

from bareboat.sandbox import controlplane


def test_all_components_serve_and_agree_on_the_version(
    sandbox: controlplane.ControlPlane, kubectl: conftest.Kubectl
) -> None:
    version = json.loads(kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"] == "v1.36.3"
    sandbox.check()
