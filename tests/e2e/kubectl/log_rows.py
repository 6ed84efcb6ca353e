"""Rows about `kubectl logs`."""

import re
import time

from tests.e2e.kubectl import ground, rows
from tests.integration.node import stage

says, Row = rows.says, rows.Row
LINES = "line 1\nline 2\nline 3\nline 4\n"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z "


def lines(*wanted: str, code: int = 0) -> rows.Check:
    """Each of them, in whatever order: two streams of one container have none."""

    def check(on: ground.Ground, words: rows.Words) -> None:
        said = on.run(words)
        found = said.out.splitlines()
        assert said.code == code and sorted(found) == sorted(wanted), (said.code, found, said.err)

    return check


ALL = lines("line 1", "line 2", "line 3", "line 4", "to stderr")


def _after_a_moment(on: ground.Ground, words: rows.Words) -> None:
    """`--since` needs a log that is older than that: it is by the time this row comes, or soon."""
    stage.until(lambda: on.run(words).out == "", "no line is that new")
    say = f"echo young > {ground.SAY}"
    on.must("exec", "web", "--", "sh", "-c", say)
    stage.until(lambda: on.run(words).out == "young\n", "the new line alone", 2)
    time.sleep(1.1)  # the next row about its age must not see it
    assert on.run(words).out == ""


def _since_a_line(on: ground.Ground, words: rows.Words) -> None:
    stamped = on.must("logs", "done", "--timestamps", "--tail=1").split()
    begin = [each.replace("TIME", stamped[0]) for each in words]
    said = on.run(begin)
    assert stamped[-1] in said.out.split(), said
    assert on.run([each.replace("TIME", "2100-01-01T00:00:00Z") for each in words]).out == ""


def _followed(on: ground.Ground, words: rows.Words) -> None:
    """What is there, what comes, and the end when the pod ends."""
    name = words[-1]
    mode = "plain" if name.endswith("-plain") else "ssh"
    command = "echo begun; while ! [ -e /tmp/go ]; do sleep 0.1; done; echo went on; exit 0"
    command = command if mode == "ssh" else "echo begun; sleep 4; echo went on; exit 0"
    on.stage.cluster.create(stage.pod(name, on.node, command, annotations={ground.ACCESS: mode}))
    on.stage.cluster.until_phase(name, "Running", 40)
    with on.running(words) as follower:
        follower.until("begun\n")
        if mode == "ssh":
            on.must("exec", name, "--", "touch", "/tmp/go")
        said = follower.end(40)
    assert (said.code, said.out) == (0, "begun\nwent on\n"), said
    on.must("delete", "pod", name)


def _followed_lines(on: ground.Ground, words: rows.Words) -> None:
    with on.running(words) as follower:
        last = follower.until(".*\n")[0]
        for word in ("apple", "pear", "plum"):
            on.must("exec", "web", "--", "sh", "-c", f"echo {word} > {ground.SAY}")
            follower.until(f"{word}\n", 5)
        assert follower.seen == f"{last}apple\npear\nplum\n", follower.seen


def _stamped(on: ground.Ground, words: rows.Words) -> None:
    said = on.run(words)
    found = said.out.splitlines()
    assert said.code == 0 and len(found) >= 5, said
    assert all(re.match(STAMP, each) for each in found), said.out
    assert said.out.splitlines() == sorted(found, key=lambda each: each.split()[0]), "not in order of time"


def _prefixed(on: ground.Ground, words: rows.Words) -> None:
    said = on.run(words)
    assert said.code == 0, said
    for wanted in ("[pod/web/before] first of all", "[pod/web/main] line 4"):
        assert wanted in said.out.splitlines(), said.out
    assert all(each.startswith("[pod/web/") for each in said.out.splitlines()), said.out


PULL = r'container "main" in pod "unlucky(-plain)?" is waiting to start: .*(pull|image)'
NONE_BEFORE = says("", err='previous terminated container "main" in pod "web(-plain)?" not found', code=1)
TABLE = [
    Row("logs {web} -c main", "each line", ALL, ALL),
    Row("logs {web} --tail=2", "the last two", says(r"[^\n]+\n[^\n]+\n"), says("line 4\nto stderr\n")),
    Row("logs {web} --timestamps", "with the time of each", _stamped, _stamped),
    Row("logs {web} -c main --since=1s", "only what is new", _after_a_moment),
    Row("logs {done} --since-time=TIME", "from a time on", _since_a_line),
    Row("logs {done} --limit-bytes=9", "no more than so many", says(".{9}"), says(".{9}")),
    Row("logs -f --tail=1 {web}", "new lines as they come", _followed_lines),
    Row("logs -f {new}", "to the end of the pod, and ends", _followed, _followed),
    Row("logs {done}", "of a finished pod", ALL, ALL),
    Row("logs {unlucky}", "why it waits", says("", err=PULL, code=1), says("", err=PULL, code=1)),
    Row("logs {crash} --previous", "the run before; where there was none, that", rows.both(
        says("attempt\n"), lambda on, _: NONE_BEFORE(on, ["logs", "web", "--previous", "-c", "main"])),
        lambda on, _: NONE_BEFORE(on, ["logs", "web-plain", "--previous"])),
    Row("logs {web} -c before", "an init container", says("first of all\n")),
    Row("logs {web} --all-containers --prefix", "all, told apart", _prefixed),
]  # fmt: skip
