"""Rows about exec, attach, cp, port-forward and debug."""

import concurrent.futures
import hashlib
import os
import re
import shutil
import socket
import urllib.error
import urllib.request
from pathlib import Path

from tests.e2e.kubectl import ground, rows

says, refused, Row = rows.says, rows.refused, rows.Row
LARGE_BYTES = 100_000_000
MANY = 40


def _other_words(*words: str, check: rows.Check) -> rows.Check:
    return lambda on, _: check(on, words)


def _on_a_terminal(on: ground.Ground, words: rows.Words) -> None:
    with on.terminal(words) as typed:
        typed.until(r"[#$] ")
        typed.type("tty; stty size; sleep 100\n")
        typed.until(r"/dev/pts/\d+\r\n30 100\r\n")
        typed.type("\x03")
        typed.type("echo still $((6*7)); exit 5\n")
        said = typed.end()
    assert "still 42" in said.out and said.code == 5, said


def _attached(on: ground.Ground, words: rows.Words) -> None:
    with on.running(words) as attached:
        attached.type("one\n")
        attached.until("^got one\n")
        attached.type("two\n")
        attached.until("got two\n")
        attached.process.kill()
        attached.process.wait()
        assert attached.process.stderr is not None
        assert b"heard one\nheard two\n" in attached.process.stderr.read()
    told = on.must("logs", "web", "-c", "talk")
    assert "got two" in told and "heard two" in told, told


def _attached_to_a_terminal(on: ground.Ground, words: rows.Words) -> None:
    with on.terminal(words) as typed:
        typed.type("echo $((6*7)); tty\n")
        typed.until(r"\n42\r\n/dev/")
    with on.terminal(words, columns=90) as again:
        again.type("stty size\n")
        again.until(r"\n30 90\r\n")


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copied(on: ground.Ground, words: rows.Words) -> None:
    sent, back = on.folder / "large", on.folder / "large-back"
    with sent.open("wb") as file:
        for _ in range(LARGE_BYTES // 1_000_000):
            file.write(os.urandom(1_000_000))
    says("", err="")(on, words)
    there = on.must("exec", "web", "-c", "main", "--", "sha256sum", "/tmp/large").split()[0]
    assert there == _sum(sent), "the file arrived changed"
    says(None)(on, ["cp", "web:/tmp/large", str(back), "-c", "main"])
    assert _sum(back) == there, "the file came back changed"
    on.must("exec", "web", "-c", "main", "--", "rm", "/tmp/large")
    sent.unlink()
    back.unlink()


def _copied_folder(on: ground.Ground, words: rows.Words) -> None:
    folder = on.folder / "tree"
    (folder / "deep" / "empty").mkdir(parents=True)
    (folder / "deep" / "a file").write_text("of words\n")
    (folder / "run").write_text("#!/bin/sh\necho ran\n")
    (folder / "run").chmod(0o755)
    says("")(on, words)
    says("ran\n")(on, ["exec", "web", "-c", "main", "--", "/tmp/tree/run"])
    back = on.folder / "tree-back"
    says(None)(on, ["cp", "web:/tmp/tree", str(back), "-c", "main"])
    found = sorted(str(each.relative_to(back)) for each in back.rglob("*"))
    assert found == ["deep", "deep/a file", "deep/empty", "run"], found
    assert (back / "deep" / "a file").read_text() == "of words\n"
    shutil.rmtree(folder)
    shutil.rmtree(back)


def _fetched(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=20) as response:
        return str(response.read().decode())


def _forwarded(on: ground.Ground, words: rows.Words) -> None:
    with on.running(words) as forwarder:
        ports = [int(forwarder.until(rf"127.0.0.1:(\d+) -> {remote}\n")[1]) for remote in (8080, 8081)]
        with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
            answers = list(pool.map(_fetched, ports * MANY))
        assert answers == ["hello\n"] * (2 * MANY), answers
        with socket.create_connection(("127.0.0.1", ports[0]), 10) as half:
            half.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            half.shutdown(socket.SHUT_WR)
            got = b""
            while data := half.recv(65536):
                got += data
        assert got.endswith(b"hello\n"), got
        assert forwarder.process.poll() is None, "kubectl ended meanwhile"


def _nobody_listens(on: ground.Ground, words: rows.Words) -> None:
    with on.running(words) as forwarder:
        closed = int(forwarder.until(r"127.0.0.1:(\d+) -> 9\n")[1])
        works = int(forwarder.until(r"127.0.0.1:(\d+) -> 8080\n")[1])
        try:
            _fetched(closed)
        except (urllib.error.URLError, ConnectionError, OSError):
            pass
        else:
            raise AssertionError("port 9 answered, on which nobody listens")
        assert _fetched(works) == "hello\n", "the other port suffered"
        assert forwarder.process.poll() is None, "kubectl ended"


def _debugged(on: ground.Ground, words: rows.Words) -> None:
    """No container can be added to a rented machine, as its status says; a second exec does what was wanted."""
    on.run(words)
    told = on.must("get", "pod", "web", "-o", "jsonpath={.status.ephemeralContainerStatuses[*].state.terminated}")
    assert re.search("no container can be added .* kubectl exec", told), told
    with on.running(["exec", "-i", "web", "--", "sh"]) as first:
        first.type("echo my pid is $$; read wait\n")
        pid = first.until(r"my pid is (\d+)\n")[1]
        seen = on.must("exec", "web", "--", "ls", f"/proc/{pid}/fd")
        assert "0" in seen.split(), seen


ENDED = "cannot exec into a container in a completed pod"
TABLE = [
    Row("exec {web} -- cat /srv/index.html", "its output", says("hello\n"), refused("exec")),
    Row("exec {web} -- sh -c 'echo out; echo err >&2; exit 7'", "streams apart; the exit code",
        says("out\n", err="(?m)^err$(.|\n)*exit code 7", code=7), refused("exec")),
    Row("exec -i {web} -- sha256sum", "stdin to its end",
        says(hashlib.sha256(b"12345" * 20_000).hexdigest() + "  -\n", stdin="12345" * 20_000), refused("exec")),
    Row("exec -it {web} -- sh", "terminal, its size, Ctrl-C, code 5", _on_a_terminal),
    Row("exec {web} -- no-such-command", "not found: code 127",
        says("", err='exec: "no-such-command": executable file not found', code=127), refused("exec")),
    Row("exec {unlucky} -- true", "no such container, none that runs, a finished pod", rows.both(
        says("", err='container not found \\("main"\\)', code=1),
        _other_words("exec", "web", "-c", "nobody", "--", "true", check=says("", err="container nobody is", code=1)),
        _other_words("exec", "done", "--", "true", check=says("", err=ENDED, code=1)))),
    Row("attach -i {web} -c talk", "both its streams; input; its log", _attached,
        _other_words("attach", "web-plain", check=refused("attach"))),
    Row("attach -it {web} -c term", "its terminal, twice", _attached_to_a_terminal),
    Row("cp {folder}/large {web}:/tmp/large -c main", "100 MB there and back, sha256", _copied,
        _other_words("cp", "/etc/hosts", "web-plain:/tmp/x", check=refused("exec"))),
    Row("cp {folder}/tree {web}:/tmp/tree -c main", "a folder there and back", _copied_folder),
    Row("port-forward pod/{web} :8080 :8081", "80 connections at once, half closed", _forwarded,
        refused("port-forward")),
    Row("port-forward pod/{web} :9 :8080", "refused port; the other lives on", _nobody_listens),
    Row("debug {web} --image=busybox:1.36 -c look", "refused in its status; a second exec", _debugged),
]  # fmt: skip
