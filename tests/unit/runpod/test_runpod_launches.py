"""From a launch to what is sent, in each API's words; places; the bootstrap command."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bareboat.clouds.runpod import bootstrap, create, places
from bareboat.core import errors, labels, launches, regions

MARK = labels.Mark("c", "o", "1")
ROW = create.Row("NVIDIA L4", "SECURE", "EU-RO-1", 2)
KEY = "ssh-ed25519 " + "A" * 68 + " me@here"


def _launch(**more: object) -> launches.Launch:
    return launches.Launch(image="busybox:1", **more)  # type: ignore[arg-type]


def test_v2_says_what_is_wanted_and_nothing_more() -> None:
    launch = _launch(
        command=("python3", "-c"),
        args=("print('a b')",),
        env={"A": "b"},
        ports=(launches.Port(80), launches.Port(81, "HTTP")),
    )
    body = create.v2(launch, MARK, ROW, "reg1")
    assert json.loads(body.pop("args")) == {"entrypoint": ["python3", "-c"], "cmd": ["print('a b')"]}
    assert body == {
        "name": "bareboat/c/o/1",
        "image": "busybox:1",
        "gpu": {"id": "NVIDIA L4", "count": 2},
        "cloud": "SECURE",
        "dataCenterIds": ["EU-RO-1"],
        "disk": 11,
        "ports": ["80/tcp", "81/http"],
        "env": {"A": "b"},
        "registry": "reg1",
    }


def test_the_images_own_command_is_left_alone() -> None:
    assert "args" not in create.v2(_launch(), MARK, ROW, None)
    assert json.loads(create.v2(_launch(args=("x",)), MARK, ROW, None)["args"]) == {"cmd": ["x"]}


def test_v1_asks_for_no_volume() -> None:
    body = create.v1(_launch(command=("a",)), MARK, ROW, None, spot=True)
    assert (body["volumeInGb"], body["interruptible"], body["gpuTypeIds"]) == (0, True, ["NVIDIA L4"])
    assert body["dockerEntrypoint"] == ["a"] and "dockerStartCmd" not in body


def test_graphql_bids_for_each_gpu() -> None:
    body = create.graphql(_launch(env={"A": "b"}, ports=(launches.Port(80),)), MARK, ROW, None, 0.2)
    assert (body["bidPerGpu"], body["env"], body["ports"]) == (0.2, [{"key": "A", "value": "b"}], "80/tcp")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"ports": (launches.Port(53, "UDP"),)}, "port 53 has protocol UDP"),
        ({"ports": (launches.Port(0),)}, "port 0 is out of range"),
        ({"ports": tuple(launches.Port(number, "HTTP") for number in range(1, 12))}, "11 HTTP ports"),
        ({"env": {"RUNPOD_API_KEY": "x"}}, "RUNPOD_API_KEY is one that RunPod sets itself"),
        ({"env": {"A B": "x"}}, "'A B' has a name"),
        ({"env": {"A": "\0"}}, "NUL"),
    ],
)
def test_what_cant_be_sent_is_refused_with_a_sentence(more: dict[str, object], sentence: str) -> None:
    with pytest.raises(errors.LaunchRefused, match=sentence):
        create.v2(_launch(**more), MARK, ROW, None)


def test_an_image_without_a_name_and_a_mark_that_is_too_long_are_refused() -> None:
    with pytest.raises(errors.LaunchRefused, match="no image name"):
        create.v2(launches.Launch(image=" "), MARK, ROW, None)
    with pytest.raises(errors.LaunchRefused, match="191"):
        create.v2(_launch(), labels.Mark("c" * 64, "o" * 64, "1" * 64), ROW, None)


def test_the_one_variable_of_runpods_own_that_may_be_set() -> None:
    assert create.v2(_launch(env={"RUNPOD_POD_USER": "0"}), MARK, ROW, None)["env"] == {"RUNPOD_POD_USER": "0"}


def test_ssh_access_opens_port_22_and_tells_the_cloud_nothing_but_keys() -> None:
    body = create.v2(_launch(ssh_public_keys=(KEY,)), MARK, ROW, None)
    words = json.loads(body["args"])
    assert body["ports"] == ["22/tcp"] and body["env"] == {}
    assert words["entrypoint"] == ["/bin/sh", "-c"] and KEY in words["cmd"][0] and bootstrap.MARK in words["cmd"][0]


@pytest.mark.parametrize("name", ["sshd", None])
def test_the_bootstrap_becomes_the_ssh_server_or_says_that_there_is_none(tmp_path: Path, name: str | None) -> None:
    """Run for real, with a folder in place of the system's programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in ("mkdir", "chmod", "tail"):
        (programs / tool).symlink_to(str(shutil.which(tool)))
    (programs / "sleep").write_text("#!/bin/sh\nkill -TERM $PPID\n")
    (programs / "sleep").chmod(0o755)
    if name is not None:
        (programs / name).write_text('#!/bin/sh\necho "sshd $*"\n')
        (programs / name).chmod(0o755)
    _, (script,) = bootstrap.command([KEY, KEY])
    for place in ("/tmp/", "/root/", "/run/"):
        script = script.replace(f" {place}", f" {tmp_path}/").replace(f">{place}", f">{tmp_path}/")
    script = script.replace(':/usr/sbin:/usr/local/sbin:/sbin"', '"')
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": str(programs)}, capture_output=True, text=True, timeout=20, check=False
    )
    assert (tmp_path / ".ssh" / "authorized_keys").read_text() == f"{KEY}\n{KEY}\n"
    if name is None:
        assert bootstrap.NO_SERVER in done.stdout
    else:
        assert done.stdout.startswith("sshd -D -e -p 22 -o PermitRootLogin=prohibit-password")


@pytest.mark.parametrize(
    ("data_center", "region"),
    [
        ("US-TX-3", "US-TX-3"),
        ("CA-MTL-1", "CA-MTL-1"),
        ("EU-RO-1", "RO-1"),
        ("EUR-IS-2", "IS-2"),
        ("AP-JP-1", "JP-1"),
        ("OC-AU-1", "AU-1"),
        (None, None),
        ("", None),
    ],
)
def test_data_centres_stand_in_countries(data_center: str | None, region: str | None) -> None:
    assert places.region(data_center) == region
    if region is not None:
        assert regions.looks_right(region)
        assert regions.covers(region[:2], region)
        assert places.is_data_center(data_center or "")


def test_europe_covers_its_data_centres() -> None:
    assert regions.place(places.region("EU-RO-1"), ["EU"]) == 0
    assert regions.place(places.region("US-TX-3"), ["US-CA", "US-TX"]) == 1
