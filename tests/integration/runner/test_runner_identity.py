"""Whom a container runs as, what it may, what it finds: environment, folder, names, file views."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access.documents import HostAlias, Mount, Volume


def printed(box: boxes.Box, script: str, **more: Any) -> str:
    box.run_to_end(a_launch(a_container(script=script, **more)))
    return box.log().strip()


@pytest.mark.parametrize(
    ("user", "seen"),
    [("1234", "1234 0 /"), ("1234:5678", "1234 5678 /"), ("nobody", "65534 65534 /nonexistent"),
     ("nobody:daemon", "65534 1 /nonexistent"), ("65534", "65534 65534 /nonexistent"), ("", "0 0 /root")],
)  # fmt: skip
def test_users(box: boxes.Box, user: str, seen: str) -> None:
    assert printed(box, 'echo $(id -u) $(id -g) "$HOME"', user=user) == seen


def test_supplementary_groups(box: boxes.Box) -> None:
    assert printed(box, "id -G", user="1234:5678", groups=(42, 43)) == "5678 42 43"


def test_an_unknown_group_is_told_by_name(box: boxes.Box) -> None:
    state = box.run_to_end(a_launch(a_container("true", user="0:nosuchgroup")))
    assert "unable to find group nosuchgroup" in terminated(state).message


def test_another_user_may_write_to_its_standard_streams_by_name(box: boxes.Box) -> None:
    assert sorted(printed(box, "echo out >/dev/stdout; echo err >/dev/stderr", user="1234").split()) == ["err", "out"]


def test_an_ordinary_user_runs_containers_as_itself(poor_box: boxes.Box) -> None:
    assert printed(poor_box, "id -u") == "65534"


def test_an_ordinary_user_cannot_become_another_and_says_so(poor_box: boxes.Box) -> None:
    ended = terminated(poor_box.run_to_end(a_launch(a_container("true", user="1234"))))
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert ended.message == ("can't become user 1234: the machine runs us as user 65534, and only root may change")


def test_an_ordinary_user_does_without_a_message_where_it_may_not_write(poor_box: boxes.Box) -> None:
    main = a_container(script="exit 3", termination_message_path="/proc/nowhere/said")
    ended = terminated(poor_box.run_to_end(a_launch(main)))
    assert (ended.exit_code, ended.message) == (3, "")


def test_an_ordinary_user_that_drops_capabilities_cannot_gain_any(poor_box: boxes.Box) -> None:
    script = "grep NoNewPrivs /proc/self/status"
    assert printed(poor_box, script, drop_capabilities=("ALL",)).split() == ["NoNewPrivs:", "1"]


def test_an_ordinary_users_volumes_are_links(poor_box: boxes.Box) -> None:
    at = poor_box.files / "data"
    main = a_container(script=f"echo x >{at}/f; cat {at}/f", mounts=(Mount("data", str(at)),))
    poor_box.run_to_end(a_launch(main, volumes=(Volume("data"),)))
    assert poor_box.log() == "x\n" and at.is_symlink()


def test_the_environment_is_what_the_document_says_and_home_path_hostname(box: boxes.Box) -> None:
    box.environment["SECRET_OF_THE_MACHINE"] = "x"
    box.run_to_end(a_launch(a_container("env", env=(("B", "2"), ("A", "1"), ("B", "3"), ("EMPTY", "")))))
    assert box.log().splitlines() == [
        "B=3", "A=1", "EMPTY=", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=web",
        "HOME=/root",
    ]  # fmt: skip


def test_given_home_and_path_are_kept(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container("env", env=(("HOME", "/h"), ("PATH", "/usr/bin"), ("HOSTNAME", "me")))))
    assert box.log().splitlines() == ["HOME=/h", "PATH=/usr/bin", "HOSTNAME=me"]


def test_the_program_is_looked_for_in_the_containers_own_path(box: boxes.Box) -> None:
    tool = box.files / "tool"
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    box.run_to_end(a_launch(a_container("tool", env=(("PATH", f"/nowhere:{box.files}:/bin:/usr/bin"),))))
    assert box.log() == "mine\n"


def test_the_working_directory_is_used_and_made(box: boxes.Box) -> None:
    assert printed(box, "pwd", working_dir="/usr") == "/usr"


def test_a_working_directory_that_lacks_is_made(box: boxes.Box) -> None:
    at = box.files / "not/yet"
    assert printed(box, "pwd; stat -c %u .", working_dir=str(at), user="1234") == f"{at}\n1234"


def test_a_working_directory_that_is_a_file_is_told(box: boxes.Box) -> None:
    ended = terminated(box.run_to_end(a_launch(a_container("true", working_dir="/etc/passwd"))))
    assert ended.reason == "StartError" and 'working directory "/etc/passwd"' in ended.message


def test_no_new_privileges(box: boxes.Box) -> None:
    script = "grep NoNewPrivs /proc/self/status"
    assert printed(box, script, no_new_privileges=True).split() == ["NoNewPrivs:", "1"]


def test_privileges_are_not_taken_unasked(box: boxes.Box) -> None:
    assert printed(box, "grep NoNewPrivs /proc/self/status").split() == ["NoNewPrivs:", "0"]


@pytest.mark.parametrize("user", ["", "1234"])
def test_all_capabilities_can_be_dropped(box: boxes.Box, user: str) -> None:
    script = "grep -E 'Cap(Inh|Prm|Eff|Bnd)' /proc/self/status | cut -f2"
    assert printed(box, script, drop_capabilities=("ALL",), user=user).split() == ["0" * 16] * 4


def test_one_capability_can_be_dropped(box: boxes.Box) -> None:
    script = "grep -E 'Cap(Eff|Bnd)' /proc/self/status | cut -f2"
    for value in printed(box, script, drop_capabilities=("NET_RAW",)).split():
        assert not int(value, 16) & 1 << 13 and int(value, 16) & 1


def test_a_read_only_root(box: boxes.Box) -> None:
    at = box.files / "data"
    script = f"touch /usr/x 2>/dev/null || echo refused; touch {at}/x && echo written"
    main = a_container(script=script, read_only_root=True, mounts=(Mount("data", str(at)),))
    box.run_to_end(a_launch(main, volumes=(Volume("data"),)))
    assert box.log() == "refused\nwritten\n"


def test_a_read_only_root_that_cannot_be_is_said(new_box: object) -> None:
    box = new_box(mounting=False)  # type: ignore[operator]
    state = box.run_to_end(a_launch(a_container("true", read_only_root=True)))
    assert terminated(state).exit_code == 0 and "ReadOnlyRootIgnored" in boxes.reasons(state)


def test_host_name_and_hosts_in_a_view_of_the_pods_own(box: boxes.Box) -> None:
    before, name = Path("/etc/hosts").read_bytes(), os.uname().nodename
    launch = a_launch(
        a_container(script="hostname; cat /etc/hosts"),
        subdomain="sub",
        host_aliases=(HostAlias("10.1.2.3", ("a.test", "b")),),
    )
    box.run_to_end(launch)
    lines = box.log().splitlines()
    assert lines[0] == "web"
    assert "10.1.2.3\ta.test\tb" in lines and "10.9.8.7 of-the-cloud" in lines
    assert any(text.endswith("\tweb.sub.default.svc.cluster.local\tweb") for text in lines)
    assert (Path("/etc/hosts").read_bytes(), os.uname().nodename) == (before, name)
    assert "a.test" not in box.hosts.read_text()


def test_hosts_where_mounting_is_not_allowed(new_box: object) -> None:
    box = new_box(mounting=False)  # type: ignore[operator]
    box.run_to_end(a_launch(a_container("cat", "/etc/hosts"), host_aliases=(HostAlias("10.1.2.3", ("a.test",)),)))
    assert "10.1.2.3\ta.test" in box.log() and "10.9.8.7 of-the-cloud" in box.log()
    assert "10.1.2.3\ta.test" in box.hosts.read_text(), "the machine's own file"


def test_host_aliases_that_cannot_be_written_are_told(poor_box: boxes.Box) -> None:
    state = poor_box.run_to_end(a_launch(a_container("true"), host_aliases=(HostAlias("10.1.2.3", ("a.test",)),)))
    assert "HostAliasesIgnored" in boxes.reasons(state, "")


def test_the_kernel_takes_the_workload_first_when_memory_runs_out(box: boxes.Box) -> None:
    box.run(a_launch(a_container(script="cat /proc/self/oom_score_adj; sleep 60"))).running()
    boxes.eventually(lambda: box.log() == "900\n", "the container's own")
    assert int(Path(f"/proc/{box.supervisor()}/oom_score_adj").read_text()) <= 0


def test_the_roots_files_are_not_for_the_pods_users(box: boxes.Box) -> None:
    script = f"cat {box.root}/launch.json {box.root}/state.json 2>/dev/null; ls {box.root} 2>/dev/null; echo end"
    assert printed(box, script, user="1234") == "end"
    assert container(box.state()).terminated is not None
