"""Startup, readiness and liveness, by exec, http, tcp and grpc."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
import trustme
from tests.integration.runner import boxes, servers
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access import documents
from bareboat.access.documents import Action, Probe


@pytest.fixture(autouse=True)
def quick(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "20"


def ready(state: documents.State) -> bool:
    return container(state).ready


def verdict(box: boxes.Box, action: Action, **more: int) -> str:
    """Empty when a readiness probe with this action made the container ready, else what it said."""
    probe = Probe(action, **more)
    follower = box.run(a_launch(a_container("sleep", "60", readiness=probe)))
    state = follower.until(lambda state: ready(state) or boxes.messages(state, "Unhealthy") != [])
    return "" if ready(state) else boxes.messages(state, "Unhealthy")[0]


def test_a_container_without_probes_is_started_and_ready(box: boxes.Box) -> None:
    state = box.run(a_launch(a_container("sleep", "60"))).running()
    assert container(state).started and container(state).ready


def test_readiness_comes_and_goes_with_its_probe(box: boxes.Box) -> None:
    flag = box.files / "flag"
    probe = Probe(Action("exec", command=("test", "-e", str(flag))), failure_threshold=2)
    follower = box.run(a_launch(a_container("sleep", "60", readiness=probe)))
    state = follower.until(lambda state: "Unhealthy" in boxes.reasons(state))
    assert container(state).started and not container(state).ready
    flag.touch()
    follower.until(ready)
    flag.unlink()
    since = len(follower.states)
    follower.until(lambda state: follower.states.index(state) >= since and not ready(state))
    assert container(box.follow().running()).restarts == 0, "readiness never kills"


def test_success_threshold_counts_successes_in_a_row(box: boxes.Box) -> None:
    count = box.files / "count"
    command = ("sh", "-c", f"echo x >>{count}; [ $(wc -l <{count}) -ne 2 ]")
    probe = Probe(Action("exec", command=command), success_threshold=3)
    box.run(a_launch(a_container("sleep", "60", readiness=probe))).until(ready)
    assert len(count.read_text().split()) == 5  # good, bad, then three in a row


def test_initial_delay_is_kept(box: boxes.Box) -> None:
    probe = Probe(Action("exec", command=("true",)), initial_delay_s=10)
    follower = box.run(a_launch(a_container("sleep", "60", readiness=probe)))
    state = follower.until(ready)
    running = container(state).running
    assert running is not None and 0.5 <= state.at - running.started_at < 1.5


def test_liveness_failure_restarts_the_container(box: boxes.Box) -> None:
    alive = box.files / "alive"
    probe = Probe(Action("exec", command=("test", "-e", str(alive))), failure_threshold=3)
    follower = box.run(a_launch(a_container("sleep", "60", restart="Always", liveness=probe)))
    state = follower.until(lambda state: container(state).restarts == 1)
    assert boxes.reasons(state).count("Unhealthy") == 3
    assert "Container main failed liveness probe, will be restarted" in boxes.messages(state, "Killing")
    last = container(state).last
    assert last is not None and last.exit_code == 143
    assert container(state).ready, "a container without a readiness probe is ready as soon as it is started again"


def test_a_probes_own_grace_outranks_the_pods(box: boxes.Box) -> None:
    probe = Probe(Action("exec", command=("false",)), failure_threshold=1, grace_s=0)
    stubborn = a_container(script="trap '' TERM; while :; do sleep 0.05; done", liveness=probe)
    began = time.monotonic()
    state = box.run_to_end(a_launch(stubborn, grace_s=60))
    assert terminated(state).exit_code == 137 and time.monotonic() - began < 5


def test_startup_holds_back_the_other_probes(box: boxes.Box) -> None:
    up, asked = box.files / "up", box.files / "asked"
    note = Action("exec", command=("sh", "-c", f"echo x >>{asked}"))
    startup = Probe(Action("exec", command=("test", "-e", str(up))), failure_threshold=1000)
    follower = box.run(
        a_launch(a_container("sleep", "60", startup=startup, readiness=Probe(note), liveness=Probe(note)))
    )
    state = follower.until(lambda state: boxes.reasons(state).count("Unhealthy") >= 3)
    assert not container(state).started and not container(state).ready and not asked.exists()
    up.touch()
    state = follower.until(ready)
    assert container(state).started and asked.exists()


def test_a_startup_probe_that_never_succeeds_ends_the_run(box: boxes.Box) -> None:
    startup = Probe(Action("exec", command=("false",)), failure_threshold=2)
    state = box.run_to_end(a_launch(a_container("sleep", "60", startup=startup)))
    assert terminated(state).exit_code == 143
    assert "Container main failed startup probe, will be restarted" in boxes.messages(state, "Killing")


def test_an_exec_probe_sees_the_containers_environment_and_folder(box: boxes.Box) -> None:
    command = ("sh", "-c", '[ "$COLOUR $PWD" = "blue /usr" ] || { echo "it is $COLOUR in $PWD"; exit 1; }')
    probe = Probe(Action("exec", command=command))
    main = a_container("sleep", "60", readiness=probe, env=(("COLOUR", "blue"),), working_dir="/usr")
    box.run(a_launch(main)).until(ready)


def test_an_exec_probe_that_fails_says_what_it_printed(box: boxes.Box) -> None:
    action = Action("exec", command=("sh", "-c", "echo too bad; exit 4"))
    assert verdict(box, action) == "Readiness probe failed: too bad"


def test_an_exec_probe_that_takes_too_long_fails_and_is_killed(box: boxes.Box) -> None:
    pid = box.files / "pid"
    action = Action("exec", command=("sh", "-c", f"echo $$ >{pid}; sleep 60 & wait"))
    assert verdict(box, action, timeout_s=1) == "Readiness probe failed: timed out after 1s"
    assert not boxes.alive(int(pid.read_text()))


def test_an_exec_probe_without_a_program_fails(box: boxes.Box) -> None:
    assert "executable file not found" in verdict(box, Action("exec", command=("no-such-program",)))


@pytest.mark.parametrize(("status", "good"), [(200, True), (204, True), (399, True), (400, False), (503, False)])
def test_http_statuses(box: boxes.Box, status: int, good: bool) -> None:
    with servers.answering(lambda path: (status, "")) as server:
        said = verdict(box, Action("http", port=server.port, path="/healthz?deep=1"))
        assert said == ("" if good else f"Readiness probe failed: HTTP probe failed with statuscode: {status}")
        path, headers = server.asked[0]
    assert path == "/healthz?deep=1"
    assert headers["User-Agent"] == "kube-probe/1.36" and headers["Host"] == f"127.0.0.1:{server.port}"


def test_http_headers_are_sent_and_host_is_replaced(box: boxes.Box) -> None:
    given = (documents.Header("X-Thing", "yes"), documents.Header("Host", "example.test"),
             documents.Header("User-Agent", "mine"))  # fmt: skip
    with servers.answering(lambda path: (200, "")) as server:
        assert verdict(box, Action("http", port=server.port, path="/", headers=given)) == ""
        headers = server.asked[0][1]
    assert (headers["X-Thing"], headers["Host"], headers["User-Agent"]) == ("yes", "example.test", "mine")


def test_http_redirects_are_followed_on_the_same_host(box: boxes.Box) -> None:
    answers = {"/": (302, "/next"), "/next": (301, "other?x=1"), "/other?x=1": (500, "")}
    with servers.answering(lambda path: answers[path]) as server:
        assert "statuscode: 500" in verdict(box, Action("http", port=server.port, path="/"))
        assert [path for path, _ in server.asked[:3]] == list(answers)


def test_an_http_redirect_to_another_host_is_success_with_a_warning(box: boxes.Box) -> None:
    with servers.answering(lambda path: (302, "http://elsewhere.test/")) as server:
        assert verdict(box, Action("http", port=server.port, path="/")) == ""
    assert "ProbeWarning" in boxes.reasons(box.state())


def test_a_redirect_loop_fails(box: boxes.Box) -> None:
    with servers.answering(lambda path: (302, path)) as server:
        assert "stopped after 10 redirects" in verdict(box, Action("http", port=server.port, path="/"))


def test_https_is_not_verified(box: boxes.Box) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.test").configure_cert(context)
    with servers.answering(lambda path: (200, ""), tls=context) as server:
        assert verdict(box, Action("http", port=server.port, path="/", scheme="HTTPS")) == ""


@contextlib.contextmanager
def saying(text: bytes) -> Iterator[int]:
    """Accepts one connection after another, says something and hangs up; with nothing to say it stays silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = listener.accept()
                kept.append(conn)
                if text:
                    conn.recv(4096)
                    conn.sendall(text)
                    conn.close()

    thread = threading.Thread(target=serve, name="saying")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for conn in kept:
            conn.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"hello\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 banana\r\n\r\n", "malformed HTTP status code"),
        (b"HTTP/1.1 200 OK\r\n", "EOF"),
        (b"HTTP/1.1 " + b"x" * 100_000, "more than 64 KiB"),
        (b"", "timed out after 1s"),
    ],
)
def test_http_servers_that_talk_nonsense_fail(box: boxes.Box, text: bytes, said: str) -> None:
    with saying(text) as port:
        assert said in verdict(box, Action("http", port=port, path="/"))


def test_a_hundred_continue_is_passed_over(box: boxes.Box) -> None:
    with saying(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") as port:
        assert verdict(box, Action("http", port=port, path="/")) == ""


def test_tcp(box: boxes.Box) -> None:
    with saying(b"") as port:
        assert verdict(box, Action("tcp", port=port)) == ""


def test_tcp_refused(box: boxes.Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "connection refused" in verdict(box, Action("tcp", port=port))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (1, ""),
        (2, 'service unhealthy (responded with "NOT_SERVING")'),
        (0, 'service unhealthy (responded with "UNKNOWN")'),
        (None, "does not answer the gRPC health protocol"),
    ],
)
def test_grpc(box: boxes.Box, status: int | None, said: str) -> None:
    asked: list[bytes] = []
    with servers.health(status, asked) as port:
        result = verdict(box, Action("grpc", port=port, service="db"))
    assert (result == "") if said == "" else said in result
    assert asked[0] == b"\x00\x00\x00\x00\x04\x0a\x02db"


def test_grpc_against_a_plain_http_server_fails(box: boxes.Box) -> None:
    with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "does not answer the gRPC health protocol" in verdict(box, Action("grpc", port=port))


def test_readiness_goes_on_while_the_pod_stops_and_liveness_does_not(box: boxes.Box) -> None:
    asked, flag = box.files / "asked", box.files / "flag"
    flag.touch()
    main = a_container(
        script="trap 'echo term' TERM; while :; do sleep 0.02; done",
        readiness=Probe(Action("exec", command=("test", "-e", str(flag))), failure_threshold=1),
        liveness=Probe(Action("exec", command=("sh", "-c", f"echo x >>{asked}"))),
    )
    follower = box.run(a_launch(main))
    follower.until(ready)
    boxes.eventually(asked.exists, "liveness has been probed")
    follower.ask("stop", grace_s=3)
    follower.until(lambda state: state.stopping)
    flag.unlink()
    follower.until(lambda state: state.stopping and not ready(state) and container(state).running is not None)
    count = len(asked.read_text().split())
    follower.ended()
    assert len(asked.read_text().split()) <= count + 1
