"""Volumes: uploaded files, mounts or links, sub-paths, live updates, memory."""

import os
import re
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access.documents import Mount, Volume


def uploaded(box: boxes.Box, volume: str, **files: str) -> None:
    folder = box.root / "incoming" / volume
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)


def mounted(box: boxes.Box, script: str, *mounts: Mount, **more: Any) -> str:
    """What `script` printed in a container with these mounts."""
    volumes = tuple(Volume(name) for name in sorted({each.volume for each in mounts}))
    state = box.run_to_end(a_launch(a_container(script=script, mounts=mounts, **more), volumes=volumes))
    assert terminated(state).exit_code == 0, (terminated(state), box.log())
    return box.log()


def test_uploaded_files_are_at_their_path_with_their_modes(either_box: boxes.Box) -> None:
    uploaded(either_box, "config", plain="a=1\n", folder__deep="deep\n")
    (either_box.root / "incoming/config/plain").chmod(0o400)
    at = either_box.files / "etc/config"
    script = f"cat {at}/plain {at}/folder/deep; stat -L -c %a {at}/plain; readlink {at}/..data | cut -c1-2"
    assert mounted(either_box, script, Mount("config", str(at))) == "a=1\ndeep\n400\n..\n"


def test_other_users_find_their_way_through_uploaded_folders(either_box: boxes.Box) -> None:
    uploaded(either_box, "config", folder__deep="deep\n")
    for folder in ("incoming/config/folder", "incoming/config", "incoming"):
        (either_box.root / folder).chmod(0o700)
    at = either_box.files / "config"
    assert mounted(either_box, f"cat {at}/folder/deep", Mount("config", str(at)), user="1234") == "deep\n"


def test_an_empty_volume_is_shared_by_containers_and_init_steps(either_box: boxes.Box) -> None:
    at = either_box.files / "shared"
    mount = (Mount("shared", str(at)),)
    step = a_container(name="step", script=f"echo from step >{at}/file", restart="OnFailure", mounts=mount)
    one = a_container(name="one", script=f"cat {at}/file; echo one >{at}/one", mounts=mount)
    two = a_container(name="two", script=f"until [ -s {at}/one ]; do sleep 0.01; done; cat {at}/one", mounts=mount)
    either_box.run_to_end(a_launch(one, two, init=(step,), volumes=(Volume("shared", mode=0o777),)))
    assert (either_box.log("one"), either_box.log("two")) == ("from step\n", "one\n")


def test_what_is_in_the_way_is_hidden(either_box: boxes.Box) -> None:
    at = either_box.files / "taken"
    at.mkdir()
    (at / "old").write_text("old")
    assert mounted(either_box, f"ls {at}", Mount("empty", str(at))) == ""
    old = at / "old" if either_box.mounting else Path(f"{at}.before-bareboat") / "old"
    assert old.read_text() == "old"


def test_a_file_in_the_way_is_replaced_by_a_sub_path(either_box: boxes.Box) -> None:
    at = either_box.files / "app.conf"
    at.write_text("default\n")
    uploaded(either_box, "config", **{"app.conf": "ours\n"})
    assert mounted(either_box, f"cat {at}", Mount("config", str(at), sub_path="app.conf")) == "ours\n"


def test_two_volumes_one_inside_the_other(either_box: boxes.Box) -> None:
    uploaded(either_box, "inner", file="inner\n")
    at = either_box.files / "outer"
    script = f"cat {at}/in/ner/file; touch {at}/own; ls {at}"
    assert mounted(either_box, script, Mount("inner", f"{at}/in/ner"), Mount("outer", str(at))) == "inner\nin\nown\n"


def test_a_sub_path_that_lacks_is_made(either_box: boxes.Box) -> None:
    at, whole = either_box.files / "part", either_box.files / "whole"
    script = f"echo x >{at}/file; cat {whole}/new/folder/file"
    mounts = (Mount("data", str(at), sub_path="new/folder"), Mount("data", str(whole)))
    assert mounted(either_box, script, *mounts) == "x\n"


def test_a_sub_path_that_leads_out_of_its_volume_is_refused(either_box: boxes.Box) -> None:
    folder = either_box.root / "incoming/data"
    folder.mkdir(parents=True)
    (folder / "out").symlink_to("/etc")
    mount = Mount("data", str(either_box.files / "x"), sub_path="out")
    state = either_box.run_to_end(a_launch(a_container("true", mounts=(mount,)), volumes=(Volume("data"),)))
    assert terminated(state).reason == "StartError" and "leaves volume" in terminated(state).message


def test_a_read_only_mount_is_read_only_where_mounting_is_allowed(box: boxes.Box) -> None:
    at = box.files / "config"
    uploaded(box, "config", file="x")
    script = f"touch {at}/new 2>/dev/null || echo refused"
    assert mounted(box, script, Mount("config", str(at), read_only=True)) == "refused\n"


def test_an_update_changes_all_files_at_once_and_not_the_sub_paths(either_box: boxes.Box) -> None:
    uploaded(either_box, "config", a="1", b="1", gone="1")
    at, single = either_box.files / "config", either_box.files / "single"
    script = (
        # Whoever is in the old folder when it goes finds nothing there; that is as with a kubelet.
        f"while :; do cd {at}/..data/ && one=$(cat a 2>/dev/null) && two=$(cat b 2>/dev/null) || continue; "
        f"[ $one = $two ] || echo torn; "
        f"[ $one = 1 ] || {{ cat {single}; ls {at}; exit 0; }}; done"
    )
    mounts = (Mount("config", str(at)), Mount("config", str(single), sub_path="a"))
    follower = either_box.run(a_launch(a_container(script=script, mounts=mounts), volumes=(Volume("config"),)))
    follower.running()
    uploaded(either_box, "config", a="2", b="2", new="2")
    assert follower.ask("update", volume="config").error == ""
    state = follower.ended()
    assert terminated(state).exit_code == 0
    assert either_box.log() == "1a\nb\nnew\n"
    volume = either_box.root / "volumes/config"
    assert len([each for each in volume.iterdir() if each.name.startswith("..2")]) == 1, "the old files are gone"


def test_an_update_of_nothing_is_answered_with_an_error(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60"), volumes=(Volume("config"),)))
    follower.running()
    assert "nothing was uploaded" in follower.ask("update", volume="config").error
    assert "no volume" in follower.ask("update", volume="other").error


def test_a_volume_in_memory_lies_on_a_tmpfs_of_its_size(box: boxes.Box) -> None:
    uploaded(box, "secret", token="t")
    at = box.files / "secret"
    script = f"stat -f -c %T {at}; cat {at}/token; df --output=size -B1 {at} | tail -1; head -c 2M /dev/zero >{at}/big"
    volume = Volume("secret", in_memory=True, size_limit_bytes=1 << 20)
    state = box.run_to_end(a_launch(a_container(script=script, mounts=(Mount("secret", str(at)),)), volumes=(volume,)))
    assert terminated(state).exit_code != 0, "no more than its size fits"
    assert box.log().startswith("tmpfs\n") and re.search(r"^t +1048576$", box.log(), re.MULTILINE)
    assert not (box.root / "volumes/secret/token").exists(), "outside of the pod's view it is not there"


def test_in_memory_without_mounting_is_a_plain_folder(new_box: object) -> None:
    box = new_box(mounting=False)  # type: ignore[operator]
    at = box.files / "scratch"
    volume = Volume("scratch", in_memory=True, mode=0o777)
    main = a_container(script=f"echo x >{at}/f; cat {at}/f", mounts=(Mount("scratch", str(at)),))
    box.run_to_end(a_launch(main, volumes=(volume,)))
    assert box.log() == "x\n"


@pytest.mark.parametrize(("mode", "with_group"), [(0o777, 0o2777), (0o700, 0o2770)])
def test_a_volumes_mode_and_group(box: boxes.Box, mode: int, with_group: int) -> None:
    box.run_to_end(a_launch(a_container("true"), volumes=(Volume("data", mode=mode, group=4242),)))
    found = (box.root / "volumes/data").stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (4242, with_group)


def test_the_group_may_read_uploaded_files_whatever_their_mode(either_box: boxes.Box) -> None:
    uploaded(either_box, "secret", key="k\n")
    (either_box.root / "incoming/secret/key").chmod(0o400)
    at = either_box.files / "secret"
    main = a_container(
        script=f"id -G; cat {at}/key", user="4000:4001", groups=(4242,), mounts=(Mount("secret", str(at)),)
    )
    either_box.run_to_end(a_launch(main, volumes=(Volume("secret", group=4242),)))
    assert either_box.log() == "4001 4242\nk\n"


def test_one_pods_mounts_are_not_seen_outside(box: boxes.Box) -> None:
    at = box.files / "inside"
    main = a_container(script=f"touch {at}/file; echo up; sleep 60", mounts=(Mount("v", str(at)),))
    follower = box.run(a_launch(main, volumes=(Volume("v"),)))
    follower.running()
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    assert list(at.iterdir()) == []
    assert box.exec("ls", str(at)).stdout == b"file\n", "exec sees what the container sees"


def test_a_path_on_which_something_is_mounted_serves_an_empty_volume(new_box: object) -> None:
    box = new_box(mounting=False)  # type: ignore[operator]
    if not os.path.ismount("/dev/shm"):
        pytest.fail("this computer has no /dev/shm")
    name = f"/dev/shm/bareboat-test-{time.time_ns()}"
    main = a_container(script=f"touch {name} && rm {name} && echo there", mounts=(Mount("shm", "/dev/shm"),))
    state = box.run_to_end(a_launch(main, volumes=(Volume("shm", in_memory=True),)))
    assert box.log() == "there\n", container(state)


def test_a_mount_of_an_unknown_volume_is_refused(box: boxes.Box) -> None:
    done = box.try_start(a_launch(a_container("true", mounts=(Mount("nope", "/x"),))))
    assert done.returncode == 5 and 'unknown volume "nope"' in done.stderr
