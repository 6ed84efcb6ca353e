"""What other processes can tell about a sandbox from its folder."""

import json
import os
from pathlib import Path

from bareboat.sandbox import folders, reports


def leave_behind(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / folders.OWNER_FILE).write_text(json.dumps({"pid": 1, "started": "an earlier boot", "supervised": True}))
    return folder


def test_without_any_sandbox_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert reports.read_all(tmp_path / "never-made") == []


def test_a_claimed_folder_is_starting_until_the_facts_are_there(tmp_path: Path) -> None:
    claim = folders.claim(tmp_path, "box")
    (report,) = reports.read_all(tmp_path)
    assert (report.state, report.owner_pid) == ("starting", os.getpid())
    reports.write_facts(claim.folder, reports.Facts("https://127.0.0.1:1", "v1.36.3", {"me": os.getpid()}))
    (report,) = reports.read_all(tmp_path)
    assert (report.state, report.url, report.version) == ("running", "https://127.0.0.1:1", "v1.36.3")
    assert report.memory_mib > 0
    assert 0 <= report.age_s < 60


def test_an_ended_sandbox_is_failed_when_it_could_say_why_and_stale_when_not(tmp_path: Path) -> None:
    leave_behind(tmp_path, "killed")
    (leave_behind(tmp_path, "broken") / folders.FAILURE_FILE).write_text("etcd was ended by SIGKILL")
    broken, killed = reports.read_all(tmp_path)
    assert (broken.name, broken.state, broken.failure) == ("broken", "failed", "etcd was ended by SIGKILL")
    assert (killed.name, killed.state) == ("killed", "stale")


def test_facts_that_make_no_sense_count_as_none(tmp_path: Path) -> None:
    claim = folders.claim(tmp_path, "box")
    (claim.folder / reports.FACTS_FILE).write_text("{")
    (report,) = reports.read_all(tmp_path)
    assert report.state == "starting"
