"""Pods that are there before their node is are run as any others."""

from tests.integration.node import stage


def test_a_pod_that_waits_for_a_new_installations_first_node_gets_ssh_access(installation: stage.Stage) -> None:
    node = installation.node(
        start=False, BAREBOAT_ACCESS="ssh", BAREBOAT_SSH_SECRET=f"{installation.cluster.namespace}-key"
    )
    manifest = stage.pod("early", node)
    manifest["spec"]["nodeName"] = node.name
    installation.cluster.create(manifest)
    node.start()
    pod = installation.cluster.until_phase("early", "Running")
    assert pod["metadata"]["annotations"]["bareboat.dev/access-used"] == "ssh"
    told = [each["message"] for each in installation.cluster.events("early")]
    assert not [each for each in told if "plain access instead" in each], told
