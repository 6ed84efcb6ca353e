"""The real nginx as a child: started, pointed elsewhere by a reload that drops nothing, drained at the end.

No configuration is used that `nginx -t` has not passed; what serves goes on serving when a new one is refused. Its
death is ours (`Fatal`). What it logs goes where we log.
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import structlog

from bareboat.plumbing import supervise
from bareboat.proxy import about as abouts
from bareboat.proxy import decide
from bareboat.proxy import site as sites

log = structlog.get_logger()

TEST_TIMEOUT_S = 20.0
LISTEN_S = 5.0
LISTEN_PAUSE_S = 0.02
_TOLD_CHARS = 1500


class Refused(ValueError):
    """A configuration that nginx doesn't take, or can't be written; in nginx's words."""


class Nginx:
    """One nginx. `point` and `drain` are called one after the other, never at once."""

    def __init__(self, site: abouts.Site, pod_name: str) -> None:
        self._site = site
        self._pod_name = pod_name
        self._process: asyncio.subprocess.Process | None = None
        self._running = asyncio.Event()
        self._draining = False
        self._shown: str | None = None
        self.upstream: decide.Upstream | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def point(self, upstream: decide.Upstream | None) -> None:
        """Starts nginx, or reloads it, so that it passes requests there; None: answers 502. Nothing when it does so
        already. Raises `Refused` and `site.BadTemplate`; what served before then serves on."""
        text = sites.server(self._site, self._pod_name, upstream)
        if text != self._shown or not self.is_running:
            await self._use(text)
            self._shown = text
        self.upstream = upstream

    async def run(self) -> None:
        """Passes on what nginx says; ends with `Fatal` when nginx does, unless it was drained."""
        await self._running.wait()
        assert self._process is not None and self._process.stdout is not None
        while chunk := await self._process.stdout.read(65536):
            with contextlib.suppress(BrokenPipeError):
                sys.stderr.buffer.write(chunk)
                sys.stderr.buffer.flush()
        code = await self._process.wait()
        if self._draining:
            await asyncio.Event().wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        raise supervise.Fatal(f"nginx ended {how}: this container ends with it")

    async def drain(self) -> None:
        """Lets requests under way end, at most `drain_s`; then it is ended whatever it does."""
        self._draining = True
        if not self.is_running:
            return
        assert self._process is not None
        for number, patience_s in ((signal.SIGQUIT, self._site.drain_s), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            try:
                async with asyncio.timeout(patience_s):
                    await self._process.wait()
                log.info("nginx.drained", by=number.name)
                return
            except TimeoutError:
                log.warning("nginx.slow_to_end", signal=number.name, waited_s=patience_s)

    async def _use(self, text: str) -> None:
        config, state = self._site.config_path, self._site.state_dir
        candidate, frame, trial = state / "site.conf", state / "nginx.conf", state / "trial.conf"
        try:
            state.mkdir(mode=0o755, parents=True, exist_ok=True)
            config.parent.mkdir(parents=True, exist_ok=True)
            candidate.write_text(text)
            trial.write_text(sites.main(self._site, candidate))
            await self._test(trial)
            _replace(config, text)
            frame.write_text(sites.main(self._site, config))
        except OSError as error:
            raise Refused(f"nginx's configuration can't be written: {error}") from None
        if self.is_running:
            assert self._process is not None
            before = _children(self._process.pid)
            self._process.send_signal(signal.SIGHUP)
            await self._taken_over(before)
            log.info("nginx.reloaded", config=str(config))
        else:
            self._process = await self._spawn("-c", str(frame))
            self._running.set()
            await self._listens()
            log.info("nginx.started", pid=self._process.pid, config=str(config), port=self._site.listen_port)

    async def _listens(self) -> None:
        """Returns once connections are taken; if that takes too long, `run` will hear why."""
        host = self._site.listen_address or "127.0.0.1"
        for _ in range(round(LISTEN_S / LISTEN_PAUSE_S)):
            try:
                _, writer = await asyncio.open_connection(host, self._site.listen_port)
            except OSError:
                await asyncio.sleep(LISTEN_PAUSE_S)
                continue
            writer.close()
            return

    async def _taken_over(self, before: set[int]) -> None:
        """Returns once no worker of before takes connections: for a moment both do, each by its own configuration."""
        for _ in range(round(LISTEN_S / LISTEN_PAUSE_S)):
            if not any(map(_serves, before)):
                return
            await asyncio.sleep(LISTEN_PAUSE_S)
        log.warning("nginx.slow_to_reload", waited_s=LISTEN_S)

    async def _test(self, trial: Path) -> None:
        process = await self._spawn("-t", "-q", "-c", str(trial))
        try:
            async with asyncio.timeout(TEST_TIMEOUT_S):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Refused(f"nginx -t gave no answer within {TEST_TIMEOUT_S:g} s") from None
        if process.returncode:
            told = said.decode(errors="replace").strip()[:_TOLD_CHARS]
            raise Refused(f"nginx refuses its configuration: {told or f'exit code {process.returncode}'}")

    async def _spawn(self, *arguments: str) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                self._site.program,
                "-p",
                str(self._site.state_dir),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise Refused(f"nginx can't be started as {self._site.program!r}: {error}") from None


def _children(pid: int) -> set[int]:
    """Empty where the system doesn't tell."""
    try:
        return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except (OSError, ValueError):
        return set()


def _serves(worker: int) -> bool:
    """Whether a worker still takes connections: one that doesn't says so in its title."""
    try:
        title = Path(f"/proc/{worker}/cmdline").read_bytes()
    except OSError:
        return False
    return b"worker process" in title and b"shutting down" not in title


def _replace(path: Path, text: str) -> None:
    """In one step, so that no reload reads half a file; where only the file itself may be written, in place."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text)
        fresh.replace(path)
    except PermissionError:
        path.write_text(text)
