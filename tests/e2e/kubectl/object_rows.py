"""Rows about what pods tell of themselves, what is made of them, and their end."""

import json
import re
import time

from tests.e2e.kubectl import ground, rows
from tests.integration.node import stage

says, Row = rows.says, rows.Row
DIGEST = r"docker\.io/library/busybox@sha256:[0-9a-f]{64}"


def _figures(on: ground.Ground, words: rows.Words) -> None:
    """Straight from the node: API servers reach no node on loopback through their proxy."""
    node = on.stage.cluster.find("nodes", on.node.name)
    assert node is not None
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    direct = [f"--server=https://127.0.0.1:{port}", *words[:-1]]

    for path in ("/metrics/resource", "/stats/summary"):

        def told(asked: rows.Words = (*direct, path)) -> bool:
            said = on.run(asked)
            assert said.code == 0, said.err
            return _has_figures(said.out)

        stage.until(told, f"figures of all three containers in {path}")


def _has_figures(text: str) -> bool:
    if text.startswith("{"):
        pods = {each["podRef"]["name"]: each for each in json.loads(text)["pods"]}
        found = pods.get("web", {}).get("containers", [])
        return [each["memory"]["workingSetBytes"] > 0 for each in found] == [True] * 3
    pattern = r'^container_memory_working_set_bytes\{container="(\w+)",namespace="table",pod="web"\} [1-9]'
    return set(re.findall(pattern, text, re.MULTILINE)) == {"main", "talk", "term"}


def _job(on: ground.Ground, words: rows.Words) -> None:
    says("job.batch/sum created\n")(on, words)
    says("job.batch/sum condition met\n")(on, ["wait", "--for=condition=complete", "job/sum", "--timeout=40s"])
    says("42\n")(on, ["logs", "job/sum"])
    bad = stage.pod("bad", on.node, "exit 9")["spec"]
    job = {"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "bad"}}
    on.stage.cluster.create({**job, "spec": {"backoffLimit": 0, "template": {"spec": bad}}})
    says("job.batch/bad condition met\n")(on, ["wait", "--for=condition=failed", "job/bad", "--timeout=40s"])
    said = on.must("get", "pod", "-l", "job-name=bad", "-o", "jsonpath={..terminated.exitCode}")
    assert said.split() == ["9"], said
    on.must("delete", "job", "bad", "sum")


def _rollout(on: ground.Ground, words: rows.Words) -> None:
    on.must("create", "deployment", "many", "--image=busybox:1.36", "--replicas=2", "--", "sleep", "100000")
    try:
        says('.*deployment "many" successfully rolled out\n')(on, words)
        on.must("set", "env", "deployment/many", "COLOUR=green")
        says('.*deployment "many" successfully rolled out\n')(on, words)
        says("green\n")(on, ["exec", "deployment/many", "--", "sh", "-c", "echo $COLOUR"])
    finally:
        on.must("delete", "deployment", "many")


def _graceful(on: ground.Ground, words: rows.Words) -> None:
    cluster, mode = on.stage.cluster, "plain" if words[-1].endswith("-plain") else "ssh"
    name = words[-1]
    about: stage.Json = {"annotations": {ground.ACCESS: mode}, "terminationGracePeriodSeconds": 20}
    slow = "trap 'echo asked; sleep 1; echo ended; exit 0' TERM; while true; do sleep 0.1; done"
    pod = cluster.create(stage.pod(name, on.node, slow, **about))
    cluster.until_phase(name, "Running", 40)
    with on.running(["logs", "-f", name]) as follower:
        says(f'pod "{name}" deleted.*')(on, words)
        if mode == "ssh":
            follower.until("asked\nended\n")
    stage.until(lambda: not on.stage.vast.alive(pod), "its machine is given back")


def _forced(on: ground.Ground, words: rows.Words) -> None:
    name = words[-1]
    mode = "plain" if name.endswith("-plain") else "ssh"
    pod = on.stage.cluster.create(
        stage.pod(name, on.node, "trap '' TERM; while true; do sleep 1; done", annotations={ground.ACCESS: mode})
    )
    on.stage.cluster.until_phase(name, "Running", 40)
    began_s = time.monotonic()
    says(f'pod "{name}" force deleted.*', err="Immediate deletion")(on, words)
    assert time.monotonic() - began_s < 5, "a forced deletion waits for nothing"
    stage.until(lambda: not on.stage.vast.alive(pod), "its machine is given back")


def _of_a_terminal(on: ground.Ground, words: rows.Words) -> None:
    with on.terminal(words) as typed:
        typed.until(r"[#$] ")
        typed.type("echo $((40+2)); sleep 1; stty size; exit 6\n")
        said = typed.end(40)
    assert re.search(r"\n42\r", said.out) and "30 100" in said.out, said.out
    assert said.code == 6, f"{said.code}: {said.out}"
    assert on.stage.cluster.find("pods", "shell") is None


WIDE = r".*\n{}\s+{}\s+Running\s+0\s.*\stable-0\s.*"
STARTED = r".*Status:\s+Running\n.*\n  Normal +Scheduled .*\n  Normal +Rented .*\n  Normal +Started .*"
TABLE = [
    Row("get pod {web} -o wide", "phase, ready, node", says(WIDE.format("web", "3/3")),
        says(WIDE.format("web-plain", "1/1"))),
    Row("describe pod {web}", "states and events", says(STARTED), says(STARTED)),
    Row("events --for pod/{web}", "in order", says(r"LAST SEEN.*\n.*Rented.*\n.*Started.*"),
        says(r"LAST SEEN.*\n.*Rented.*\n.*Started.*")),
    Row("wait --for=condition=Ready pod/{web} --timeout=20s", "met", says(r"pod/web condition met\n"),
        says(r"pod/web-plain condition met\n")),
    Row("wait --for=jsonpath={{.status.phase}}=Succeeded pod/{done} --timeout=20s", "met",
        says(r"pod/done condition met\n"), says(r"pod/done-plain condition met\n")),
    Row("get pod {done} "
        "-o jsonpath='{{range .status.containerStatuses[*]}}{{.imageID}} {{.containerID}}{{end}}'",
        "the digest, if known; an id",
        says(DIGEST + " bareboat://[0-9a-f]{64}"), says(r" vast://\d+")),
    Row("get --raw /api/v1/nodes/{node}/proxy/metrics/resource", "figures of top pod; so in stats/summary", _figures),
    Row("create job sum --image=busybox:1.36 -- sh -c 'echo $((40+2))'", "its log; one that fails with 9", _job),
    Row("rollout status deployment/many --timeout=50s", "two pods, replaced one by one", _rollout),
    Row("run shell --rm -it --image=busybox:1.36 --restart=Never -- sh", "a shell on a terminal; code 6; gone",
        _of_a_terminal),
    Row("run quick --rm -i --quiet --image=busybox:1.36 --restart=Never -- sh -c 'read a; echo $a; exit 5'",
        "stdin; exit code 5", says("word\n(pod .*)?", stdin="word\n", code=5)),
    Row("run short --attach --rm --image=busybox:1.36 --restart=Never -- echo done so soon", "the log of a short run",
        says(r"done so soon\n(.*\n)?(pod .*deleted.*)?")),
    Row("delete pod {new}", "TERM, its grace, no machine left", _graceful, _graceful),
    Row("delete pod --force --grace-period=0 {new}", "at once; no machine left", _forced, _forced),
]  # fmt: skip
