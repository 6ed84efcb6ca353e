"""Many bindings at the same moment as somebody else's: each pod is in one place, and both sides know whose it is."""

import asyncio
import random
import uuid

import pytest
from benchmarks import offload_races as racing
from tests.integration.conftest import Kubectl

from bareboat.sandbox import controlplane

PODS = 200


@pytest.mark.timeout(240)
async def test_no_pod_is_in_two_places_however_many_bind_at_once(
    sandbox: controlplane.ControlPlane, kubectl: Kubectl
) -> None:
    namespace = f"race-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(kubectl, "create", "namespace", namespace)
    try:
        told = await racing.race(sandbox.kubeconfig_path, namespace, PODS, random.Random(7))
        assert told.pods == PODS
        assert told.ours_won == told.on_ours, "what was answered to us is not what stands"
        assert told.theirs_won == told.on_theirs
        assert told.ours_won + told.theirs_won == PODS and told.nowhere == 0
        assert told.ours_won and told.theirs_won, "one side won every race: nothing was raced"
        assert told.other_outcomes == []
    finally:
        await asyncio.to_thread(kubectl, "delete", "namespace", namespace, "--wait=false")
        await asyncio.to_thread(kubectl, "delete", "node", racing.OURS, racing.THEIRS, "--ignore-not-found")
