"""What is read from and written to the files of both cgroup versions."""

from pathlib import Path

import pytest

from bareboat.simulation.machines import cgroups

LIMIT = 200 * 2**20


@pytest.mark.parametrize(
    ("limit_file", "swap_file", "swap", "report", "text"),
    [
        ("memory.max", "memory.swap.max", "0", "memory.events", "low 0\nhigh 3\nmax 9\noom 2\noom_kill 1\n"),
        (
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            str(LIMIT),
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        ),
    ],
)
def test_limit_and_kills_are_found_in_both_versions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit_file: str,
    swap_file: str,
    swap: str,
    report: str,
    text: str,
) -> None:
    monkeypatch.setattr(cgroups, "_parents", lambda: [tmp_path])
    made = tmp_path / "bareboat-machine-7-8"
    real_mkdir = Path.mkdir

    def kernels_mkdir(folder: Path) -> None:
        real_mkdir(folder)
        for name in (limit_file, swap_file):
            (folder / name).touch()

    monkeypatch.setattr(Path, "mkdir", kernels_mkdir)
    group = cgroups.create(7, "8", LIMIT)
    assert group == cgroups.Group(made)
    assert (made / limit_file).read_text() == str(LIMIT)
    assert (made / swap_file).read_text() == swap
    (made / report).write_text(text)
    assert group.oom_kills() == 1


def test_without_a_memory_controller_there_is_no_group_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_parents", lambda: [tmp_path])
    assert cgroups.create(7, "8", LIMIT) is None
    assert list(tmp_path.iterdir()) == []


def test_groups_of_processes_that_are_no_more_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_parents", lambda: [tmp_path])
    for owner in (1, 2**22 + 1, 99):
        (tmp_path / f"bareboat-machine-{owner}-5").mkdir()
    (tmp_path / "someone-else").mkdir()
    cgroups.clean(ended=99)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["bareboat-machine-1-5", "someone-else"]
