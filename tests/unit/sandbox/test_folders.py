"""A name belongs to one live process; what dead processes left is recognised, also when their pid has come round."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bareboat.sandbox import folders


def leave_behind(root: Path, name: str, *, pid: int, started: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / folders.OWNER_FILE).write_text(json.dumps({"pid": pid, "started": started, "supervised": True}))
    return folder


def dead_process() -> folders.Process:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = folders.Process(process.pid, folders.start_of(process.pid))
    assert found.alive
    process.communicate()
    return found


def test_a_claimed_name_is_taken_until_it_is_released(tmp_path: Path) -> None:
    claim = folders.claim(tmp_path, "box")
    with pytest.raises(folders.NameTaken, match=f"already up, owned by process {os.getpid()}"):
        folders.claim(tmp_path, "box")
    folders.release(claim)
    assert not claim.folder.exists()
    folders.release(folders.claim(tmp_path, "box"))


def test_the_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    claim = folders.claim(tmp_path, "box")
    assert claim.folder.stat().st_mode & 0o777 == 0o700


def test_two_names_live_side_by_side(tmp_path: Path) -> None:
    folders.claim(tmp_path, "one")
    folders.claim(tmp_path, "two")
    assert [claim.name for claim in folders.live(tmp_path)] == ["one", "two"]


def test_what_a_dead_process_left_is_removed_by_the_next_claim_of_any_name(tmp_path: Path) -> None:
    owner = dead_process()
    left = leave_behind(tmp_path, "left", pid=owner.pid, started=owner.started)
    folders.claim(tmp_path, "box")
    assert not left.exists()


def test_a_pid_that_has_come_round_again_does_not_keep_a_folder(tmp_path: Path) -> None:
    folder = leave_behind(tmp_path, "box", pid=os.getpid(), started="another boot:1")
    assert folders.read(folder) is None
    assert folders.claim(tmp_path, "box").owner.pid == os.getpid()


def test_a_folder_without_an_owner_is_stale(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    assert folders.remove_stale(tmp_path) == ["box"]


def test_an_owner_file_of_an_older_kind_still_protects_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    folder.mkdir()
    me = {"pid": os.getpid(), "started": folders.start_of(os.getpid()), "unheard-of": 1}
    (folder / folders.OWNER_FILE).write_text(json.dumps(me))
    assert folders.remove_stale(tmp_path) == []


def test_a_report_of_failure_outlives_other_starts_but_not_its_own_name(tmp_path: Path) -> None:
    owner = dead_process()
    folder = leave_behind(tmp_path, "box", pid=owner.pid, started=owner.started)
    (folder / folders.FAILURE_FILE).write_text("etcd died")
    folders.claim(tmp_path, "other")
    assert folders.failure(folder) == "etcd died"
    folders.claim(tmp_path, "box")
    assert folders.failure(folder) is None


def test_release_leaves_a_folder_alone_that_now_is_somebody_elses(tmp_path: Path) -> None:
    claim = folders.claim(tmp_path, "box")
    (claim.folder / folders.OWNER_FILE).write_text(json.dumps({"pid": 1, "started": "x", "supervised": False}))
    folders.release(claim)
    assert claim.folder.exists()


@pytest.mark.parametrize("name", ["", "Upper", "-dash", "dash-", "a/b", "..", "a" * 41, "a b", ".lock"])
def test_a_bad_name_is_refused_with_what_is_allowed(tmp_path: Path, name: str) -> None:
    with pytest.raises(folders.BadName, match="allowed are 1 to 40"):
        folders.claim(tmp_path, name)
