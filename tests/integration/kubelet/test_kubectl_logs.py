"""The real kubectl reads logs from our kubelet API through the real kube-apiserver, which verifies our certificate."""

import asyncio
import time

from tests.integration.kubelet import conftest

from bareboat.kubelet import cri_logs, logs, polled_logs
from bareboat.plumbing import clock as clocks
from bareboat.sandbox import controlplane


async def test_kubectl_logs_shows_all_lines(kubelet: conftest.Kubelet) -> None:
    pod = await kubelet.run_pod("all-lines", conftest.Log(conftest.written("one", "two", "Umlaut ä")))
    done = await kubelet.kubectl("logs", pod)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntwo\nUmlaut ä\n", "")


async def test_kubectl_logs_honours_its_options(kubelet: conftest.Kubelet) -> None:
    now_s = time.time()
    lines = [logs.LogLine(int((now_s - ago_s) * logs.NS), f"{ago_s}".encode()) for ago_s in (3000, 2000, 1000, 0)]
    pod = await kubelet.run_pod("options", conftest.Log(lines))
    for arguments, expected in [
        (["--tail=2"], "1000\n0\n"),
        (["--tail=0"], ""),
        (["--since=25m"], "1000\n0\n"),
        (["--since=25m", "--tail=1"], "0\n"),
        (["--limit-bytes=7"], "3000\n20"),
        (["--since-time=2020-01-01T00:00:00Z", "--tail=3"], "2000\n1000\n0\n"),
    ]:
        done = await kubelet.kubectl("logs", pod, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, ""), arguments


async def test_kubectl_logs_shows_timestamps(kubelet: conftest.Kubelet) -> None:
    line = logs.LogLine(conftest.START_S * logs.NS + 42, b"hello")
    pod = await kubelet.run_pod("timestamps", conftest.Log([line]))
    done = await kubelet.kubectl("logs", pod, "--timestamps")
    assert done.stdout == "2026-09-21T14:13:20.000000042Z hello\n"


async def test_kubectl_logs_reads_files_of_several_containers_init_containers_too(kubelet: conftest.Kubelet) -> None:
    """Files as a container runtime writes them: parts of long lines, both streams."""
    pod = await kubelet.run_pod("several", written_file("stdout F from main"), init="setup", also="helper")
    kubelet.sources[pod, "setup"] = written_file("stdout F prepared", "stderr F warned")
    kubelet.sources[pod, "helper"] = written_file("stdout P a long ", "stdout F line", "stdout F last")
    kubelet.sources[pod, "previous helper"] = written_file("stdout F of the run before")
    for arguments, expected in [
        (["-c", "setup"], "prepared\nwarned\n"),
        (["-c", "helper"], "a long line\nlast\n"),
        (["-c", "helper", "--tail=1", "--timestamps"], "2026-09-21T14:13:22.000000000Z last\n"),
        (["-c", "helper", "--previous"], "of the run before\n"),
        (["-c", "helper", "--prefix"], "[pod/several/helper] a long line\n[pod/several/helper] last\n"),
    ]:
        done = await kubelet.kubectl("logs", pod, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, ""), arguments
    done = await kubelet.kubectl("logs", pod, "--all-containers", "--tail=1")
    assert sorted(done.stdout.splitlines()) == ["from main", "last", "warned"]


def written_file(*entries: str) -> conftest.Source:
    """One entry each second, without its time."""
    reader = cri_logs.Reader()
    text = "".join(f"2026-09-21T14:13:{20 + number}.000000000Z {entry}\n" for number, entry in enumerate(entries))
    return conftest.Log(list(reader.feed(text.encode())))


async def test_kubectl_logs_follows_until_the_container_ends(kubelet: conftest.Kubelet) -> None:
    log = conftest.Log(conftest.written("old 1", "old 2", "old 3"), asyncio.Queue())
    pod = await kubelet.run_pod("follow", log)
    follower = await kubelet.start_kubectl("logs", "-f", "--tail=1", pod)
    assert follower.stdout is not None and log.coming is not None
    assert await asyncio.wait_for(follower.stdout.readline(), 20) == b"old 3\n"
    for number in range(3):
        log.coming.put_nowait(logs.LogLine(time.time_ns(), f"new {number}".encode()))
        assert await asyncio.wait_for(follower.stdout.readline(), 20) == f"new {number}\n".encode()
    log.coming.put_nowait(None)
    rest, said = await asyncio.wait_for(follower.communicate(), 20)
    assert (rest, said, follower.returncode) == (b"", b"", 0)


async def test_a_follower_that_goes_away_closes_its_source(kubelet: conftest.Kubelet) -> None:
    log = conftest.Log(conftest.written("first"), asyncio.Queue())
    pod = await kubelet.run_pod("gone", log)
    follower = await kubelet.start_kubectl("logs", "-f", pod)
    assert follower.stdout is not None
    assert await asyncio.wait_for(follower.stdout.readline(), 20) == b"first\n"
    follower.kill()
    await follower.wait()
    await asyncio.wait_for(log.closed.wait(), 10)


async def test_stopping_the_server_ends_kubectl_without_an_error(sandbox: controlplane.ControlPlane) -> None:
    async with conftest.a_kubelet(sandbox, "kubelet-that-stops") as kubelet:
        log = conftest.Log(conftest.written("first"), asyncio.Queue())
        pod = await kubelet.run_pod("stopping", log)
        follower = await kubelet.start_kubectl("logs", "-f", pod)
        assert follower.stdout is not None
        assert await asyncio.wait_for(follower.stdout.readline(), 20) == b"first\n"
    assert await asyncio.wait_for(follower.communicate(), 20) == (b"", b"")
    assert log.closed.is_set()


async def test_a_log_of_a_cloud_without_a_stream_is_followed(kubelet: conftest.Kubelet) -> None:
    written, ended_s = ["old 1", "old 2"], None

    async def fetch(tail: int | None) -> str:
        return "".join(f"{line}\n" for line in (written if tail is None else written[-tail:]))

    settings = polled_logs.Settings(first_pause_s=0.05, drain_s=0.2)
    polled = polled_logs.PolledLog(fetch, lambda: ended_s, clocks.SystemClock(), settings)
    pod = await kubelet.run_pod("polled", polled.open)
    done = await kubelet.kubectl("logs", "--tail=1", pod)
    assert done.stdout == "old 2\n"
    follower = await kubelet.start_kubectl("logs", "-f", "--tail=1", pod)
    assert follower.stdout is not None
    assert await asyncio.wait_for(follower.stdout.readline(), 20) == b"old 2\n"
    for number in range(3):
        written.append(f"new {number}")
        assert await asyncio.wait_for(follower.stdout.readline(), 20) == f"new {number}\n".encode()
    ended_s = time.time()
    assert await asyncio.wait_for(follower.communicate(), 20) == (b"", b"")
    assert follower.returncode == 0


async def test_kubectl_shows_why_there_is_no_log(kubelet: conftest.Kubelet) -> None:
    log = conftest.Log(error=logs.waiting("main", "reasons", "ContainerCreating"))
    pod = await kubelet.run_pod("reasons", log)
    done = await kubelet.kubectl("logs", pod)
    assert done.returncode == 1
    assert 'container "main" in pod "reasons" is waiting to start: ContainerCreating' in done.stderr
    log.error = logs.Unavailable("the cloud gives no log at the moment; ask again in a minute")
    done = await kubelet.kubectl("logs", pod)
    assert done.returncode == 1
    assert "the cloud gives no log at the moment; ask again in a minute" in done.stderr
    log.error = None
    done = await kubelet.kubectl("logs", "--previous", pod)
    assert done.returncode == 1
    assert 'previous terminated container "main" in pod "reasons" not found' in done.stderr
    kubelet.sources[pod, "previous main"] = conftest.Log(conftest.written("of the run before"))
    done = await kubelet.kubectl("logs", "--previous", pod)
    assert (done.returncode, done.stdout) == (0, "of the run before\n")
