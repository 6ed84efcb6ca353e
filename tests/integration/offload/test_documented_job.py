"""The document's example Job, word for word but for an image the simulator knows, in each of the three ways."""

from tests.integration.node import stage as parts
from tests.integration.offload import stage


def example(image: str) -> str:
    return stage.EXAMPLE.replace("my-gpu-image:latest", image)


def test_forced_job_runs_on_the_cloud_and_completes(installation: stage.Stage) -> None:
    on = installation
    on.offload()
    on.cluster.kubectl("apply", "-f", "-", stdin=example("alpine:3.20"))
    on.until_over("my-gpu-job", "Complete")
    (pod,) = on.pods_of("my-gpu-job")
    assert pod["spec"]["nodeName"] == on.doors[0].name
    assert parts.terminated(pod)["exitCode"] == 0
    on.assert_clean()
