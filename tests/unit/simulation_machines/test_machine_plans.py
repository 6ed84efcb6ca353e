"""From a spec to what the zygote is told: command, environment, ports and files."""

import contextlib
import socket
import sys
from pathlib import Path

import pytest

from bareboat.simulation import images
from bareboat.simulation.machines import forked, machine, plans

IMAGE = images.Image(
    name="x:latest", digest="", entrypoint=("entry",), cmd=("cmd",), env={"A": "image", "B": "image"}, user="1000"
)


@pytest.mark.parametrize(
    ("entrypoint", "args", "argv"),
    [
        (None, None, ["entry", "cmd"]),
        (None, ["arg"], ["entry", "arg"]),
        (["own"], None, ["own"]),
        (["own"], ["arg"], ["own", "arg"]),
        (None, [], ["entry"]),
    ],
)
def test_command_follows_docker(entrypoint: list[str] | None, args: list[str] | None, argv: list[str]) -> None:
    assert machine.MachineSpec(image=IMAGE, entrypoint=entrypoint, args=args).argv() == argv


def a_plan(spec: machine.MachineSpec, host: plans.Host | None = None) -> dict[str, object]:
    with contextlib.ExitStack() as closing:
        return plans.plan(spec, plans.bind(spec.ports, closing), Path("/log"), host or plans.Host(), 1)


def test_environment_goes_from_image_over_spec_to_ports() -> None:
    spec = machine.MachineSpec(image=IMAGE, env={"B": "spec", "C": "spec"}, env_of_ports=lambda _: {"C": "ports"})
    assert a_plan(spec)["env"] == {"A": "image", "B": "spec", "C": "ports", "HOSTNAME": "machine"}


def test_user_is_left_out_where_only_one_exists() -> None:
    spec = machine.MachineSpec(image=IMAGE)
    assert a_plan(spec)["user"] == "1000"
    assert a_plan(spec, plans.Host(one_id=True))["user"] == ""


def test_ports_are_bound_to_the_loopback_address_once_each() -> None:
    with contextlib.ExitStack() as closing:
        bound = plans.bind([(80, "tcp"), (80, "tcp"), (53, "udp"), (70_000, "tcp")], closing)
        identity = bound.asked[70_000, "tcp"]
        assert set(bound.host_ports) == {(80, "tcp"), (53, "udp"), (identity, "tcp")}
        assert bound.host_ports[identity, "tcp"] == identity
        assert bound.targets == [80, identity]
        assert [listener.getsockname()[0] for listener in bound.listeners] == ["127.0.0.1"] * 2
        port = bound.host_ports[80, "tcp"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def test_files_of_the_spec_lie_over_those_of_the_image() -> None:
    image = images.Image(name="x", digest="", files={"/a": "#!/bin/sh\n", "/b": "text"})
    spec = machine.MachineSpec(image=image, files={"/b": machine.File(b"own", 0o600)})
    assert a_plan(spec)["files"] == {"/a": ["IyEvYmluL3NoCg==", 0o755], "/b": ["b3du", 0o600]}


async def test_other_systems_are_told_that_machines_need_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(machine.Unavailable, match="this is darwin; run the simulator on Linux, or without machines"):
        await forked.ForkedMachines().__aenter__()


@pytest.mark.parametrize(("code", "number"), [(0, None), (3, None), (137, 9), (143, 15), (255, None)])
def test_codes_above_128_name_their_signal(code: int, number: int | None) -> None:
    assert machine.ExitStatus(code).signal == number
