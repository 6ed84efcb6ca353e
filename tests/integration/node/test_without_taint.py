"""A node without a taint, as a test suite wants it: pods that know nothing of it are scheduled there."""

from tests.integration.node import stage


def test_a_pod_without_toleration_runs_on_a_node_without_taint(installation: stage.Stage) -> None:
    node = installation.node(start=False)
    node.arguments = ("--no-taint",)
    node.start()
    pod = stage.pod("ordinary", node)
    del pod["spec"]["tolerations"]
    installation.cluster.create(pod)
    installation.cluster.until_phase("ordinary", "Running")
    found = installation.cluster.find("nodes", node.name)
    assert found is not None and "taints" not in found["spec"]
