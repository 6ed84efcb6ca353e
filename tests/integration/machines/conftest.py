"""Real machines for the tests of this folder."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from bareboat.simulation import images
from bareboat.simulation.machines import forked, machine

SYSTEM_PYTHON = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()), None)


def an_image(reference: str = "debian") -> images.Image:
    """What a pull without login gives; the test fails when that is a refusal."""
    found = images.Catalog().resolve(reference)
    assert isinstance(found, images.Image), found
    return found


def a_shell(script: str, **more: object) -> machine.MachineSpec:
    """A machine that runs `script` in a shell."""
    return machine.MachineSpec(image=an_image(), entrypoint=["sh", "-c", script], **more)  # type: ignore[arg-type]


def a_web_server(content: bytes, port: int = 8000) -> machine.MachineSpec:
    """A machine that serves one page with `content` on all its addresses."""
    return machine.MachineSpec(
        image=an_image("python"),
        args=["python3", "-m", "http.server", str(port)],
        workdir="/srv/page",
        files={"/srv/page/index.html": machine.File(content)},
        ports=[(port, "tcp")],
    )


async def fetch(url: str, deadline_s: float = 20.0) -> str:
    """The body, once the server in the machine listens; until then the relay resets connections."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(deadline_s):
        while True:
            try:
                async with session.get(url) as answer:
                    return await answer.text()
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)


async def until(true: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Returns once `true` says so; a test whose condition never comes fails."""
    async with asyncio.timeout(deadline_s):
        while not true():  # noqa: ASYNC110 - what is waited for lies in other processes
            await asyncio.sleep(0.01)


async def printed(made: machine.Machine, text: str, deadline_s: float = 10.0) -> None:
    """Returns once the machine's log is `text`."""
    async with asyncio.timeout(deadline_s):
        while await made.log_text() != text:  # noqa: ASYNC110 - what is waited for lies in other processes
            await asyncio.sleep(0.01)


def url_of(made: machine.Machine, port: int = 8000, path: str = "/") -> str:
    """Where a TCP port of the machine is reached from here."""
    return f"http://127.0.0.1:{made.host_ports[port, 'tcp']}{path}"


async def output_of(machines: forked.ForkedMachines, spec: machine.MachineSpec) -> tuple[machine.ExitStatus, str]:
    """Runs to the end; how it ended and what it printed."""
    made = await machines.start(spec)
    async with asyncio.timeout(30):
        status = await made.wait()
    text = await made.log_text()
    await made.remove()
    return status, text


@pytest.fixture
async def machines() -> AsyncIterator[forked.ForkedMachines]:
    """The best rung that this computer and user have."""
    async with forked.ForkedMachines() as running:
        yield running


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder into which a zygote of another user can write; pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="bareboat-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)
