"""What is sent when renting: every documented limit checked first, with a sentence, and nothing cut in silence."""

from typing import Any

import pytest
from tests.unit.vast import fakes

from bareboat.clouds.vast import create
from bareboat.core import errors, labels, launches, needs


def _body(**told: Any) -> dict[str, Any]:
    return create.body(fakes.a_launch(**told), fakes.a_mark())


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        (None, None, {}),
        ((), (), {}),
        (None, ("a", "b c"), {"args": ["a", "b c"]}),
        (("/bin/app",), None, {"onstart": "/bin/app", "args": []}),
        (("python3", "-c"), ("print(1)", ""), {"onstart": "python3", "args": ["-c", "print(1)", ""]}),
        (
            ("/opt/my app/run", "-x"),
            ("y",),
            {"onstart": "/bin/sh", "args": ["-c", 'exec "$0" "$@"', "/opt/my app/run", "-x", "y"]},
        ),
    ],
)
def test_command_and_args_become_entrypoint_and_cmd(command: Any, args: Any, expected: dict[str, Any]) -> None:
    body = _body(command=command, args=args)
    assert body["runtype"] == "args"
    assert {key: body[key] for key in ("onstart", "args") if key in body} == expected


@pytest.mark.parametrize(
    ("image", "sent"),
    [
        ("busybox", "busybox:latest"),
        ("busybox:1.36", "busybox:1.36"),
        ("host:5000/team/app", "host:5000/team/app:latest"),
        ("host:5000/team/app:v1", "host:5000/team/app:v1"),
        ("app@sha256:0123", "app@sha256:0123"),
    ],
)
def test_an_image_always_has_a_tag(image: str, sent: str) -> None:
    assert _body(image=image)["image"] == sent


def test_ports_and_hostname_travel_as_flags_beside_the_environment() -> None:
    ports = (launches.Port(80), launches.Port(80, "tcp"), launches.Port(53, "UDP"))
    body = _body(env={"A": "b c"}, ports=ports, hostname="web-0")
    assert body["env"] == {"A": "b c", "-p 80:80": "1", "-p 53:53/udp": "1", "-h": "web-0"}


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("ghcr.io", "ghcr.io"),
        ("http://host:5000/", "host:5000"),
        ("", "docker.io"),
    ],
)
def test_a_registry_login_is_docker_login_in_one_string(server: str, host: str) -> None:
    login = launches.RegistryLogin(server, "me", "s3cret")
    assert _body(registry_login=login)["image_login"] == f"-u me -p s3cret {host}"


def test_disk_is_never_below_the_least_that_can_be_rented() -> None:
    assert _body(disk_gib=1.0)["disk"] == 8.0
    assert _body(disk_gib=50.5)["disk"] == 50.5


def test_a_bid_is_sent_for_spot_alone() -> None:
    assert _body(pricing=needs.Pricing.SPOT, bid_usd_per_hour=0.25)["price"] == 0.25
    assert "price" not in _body(bid_usd_per_hour=0.25)


def test_a_template_fills_in_what_the_launch_leaves_out() -> None:
    body = _body(image="", template="f" * 32)
    assert body["template_hash_id"] == "f" * 32
    assert not {"image", "runtype", "onstart", "args"} & body.keys()
    assert _body(image="", template="f" * 32, args=("x",))["runtype"] == "args"
    assert "disk" not in _body(image="", template="f" * 32, disk_gib=0) and _body(disk_gib=0)["disk"] == 8


SECRET = "p4ss w0rd"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"image": " "}, "no image name"),
        ({"image": "two words"}, "no image name"),
        ({"image": "x" * 1025}, "1024"),
        ({"command": ("sh", "-c", "x" * 4100)}, "command and args have 4104 characters together; Vast takes 4096"),
        ({"env": {"A": "x" * 32768}}, "environment has 32769 characters"),
        ({"env": {"-p 22:22": "1"}}, "environment variable '-p 22:22'"),
        ({"env": {"A B": "1"}}, "'A B'"),
        ({"env": {"": "1"}}, "environment variable ''"),
        ({"env": {"A": "\0"}}, "NUL"),
        ({"ports": tuple(launches.Port(number) for number in range(1, 66))}, "65 ports"),
        ({"ports": (launches.Port(80, "SCTP"),)}, "protocol SCTP"),
        ({"ports": (launches.Port(0),)}, "port 0 is out of range"),
        ({"hostname": "a b"}, "hostname"),
        ({"registry_login": launches.RegistryLogin("ghcr.io", "me", SECRET)}, "ghcr.io has a password"),
        ({"registry_login": launches.RegistryLogin("ghcr.io", "", "x")}, "ghcr.io has a username"),
        ({"pricing": needs.Pricing.SPOT}, "the bid is None"),
        ({"pricing": needs.Pricing.SPOT, "bid_usd_per_hour": 200.0}, r"the bid is 200.0 \$/h; Vast takes 0.001–128"),
    ],
)
async def test_what_vast_cannot_carry_is_refused_before_it_is_sent(told: dict[str, Any], why: str) -> None:
    async with fakes.serving(fakes.says({})) as server, fakes.client(server.url) as cloud:
        with pytest.raises(errors.LaunchRefused, match=why) as caught:
            await cloud.rent(fakes.an_offer(), fakes.a_launch(**told), fakes.a_mark())
    assert server.asked == []
    assert SECRET not in str(caught.value)


def test_the_longest_mark_fits_the_label() -> None:
    mark = labels.Mark("c" * 64, "o" * 64, "a" * 64)
    assert create.body(fakes.a_launch(), mark)["label"] == str(mark)


A_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{'I' * 43} bareboat"


def test_ssh_access_sends_public_keys_and_nothing_of_the_workload() -> None:
    body = _body(ssh_public_keys=(A_KEY, A_KEY.replace("III", "JJJ")), ports=(launches.Port(80),), hostname="web-0")
    assert body["runtype"] == "ssh_direct"
    assert body["env"] == {"-p 80:80": "1", "-h": "web-0"}
    assert "args" not in body
    assert body["onstart"].count("authorized_keys") == 2
    assert f"echo '{A_KEY}'" in body["onstart"]


@pytest.mark.parametrize("told", [{"env": {"A": "b"}}, {"command": ("sh",)}, {"args": ("x",)}])
def test_ssh_access_with_anything_of_the_workload_is_no_launch(told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tells the cloud nothing"):
        fakes.a_launch(ssh_public_keys=(A_KEY,), **told)


@pytest.mark.parametrize(
    "line", ["", "hello", f"{A_KEY}\nevil", f"{A_KEY} '; rm -rf /", "-----BEGIN OPENSSH PRIVATE KEY"]
)
def test_what_is_no_public_key_is_refused_unseen(line: str) -> None:
    with pytest.raises(ValueError, match=r"ssh_public_keys\[0\]") as caught:
        fakes.a_launch(ssh_public_keys=(line,))
    assert len(line) < 3 or line not in str(caught.value)


def test_ssh_access_leaves_one_port_of_the_64_to_the_server() -> None:
    ports = tuple(launches.Port(number) for number in range(1, 65))
    with pytest.raises(errors.LaunchRefused, match="63"):
        _body(ssh_public_keys=(A_KEY,), ports=ports)
