"""`bareboat sandbox`: what a person reads, and the exit codes a script reads."""

import io
import json
from pathlib import Path

import pytest
import rich.console
from tests.unit.sandbox import conftest
from typer.testing import CliRunner

from bareboat.cli import sandbox
from bareboat.sandbox import binaries, folders, reports


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder that the commands see."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "bareboat" / "sandboxes"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Everything that the commands print with rich, on paper of 80 columns."""
    paper = io.StringIO()
    monkeypatch.setattr(sandbox, "out", rich.console.Console(file=paper, width=80))
    monkeypatch.setattr(sandbox, "err", rich.console.Console(file=paper, width=80))
    return paper


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(sandbox.app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def a_running_sandbox(root: Path, name: str) -> None:
    folder = folders.claim(root, name).folder
    (folder / "kubeconfig").write_text("kind: Config\n")
    reports.write_facts(folder, reports.Facts("https://127.0.0.1:29999", "v1.36.3", {}))


@pytest.mark.usefixtures("root")
def test_status_without_a_sandbox_names_the_command_that_starts_one(said: io.StringIO) -> None:
    assert run("status") == (0, "")
    assert said.getvalue() == "No sandbox is up. Start one with: bareboat sandbox up\n"


def test_status_fits_eighty_columns_with_the_longest_name(root: Path, said: io.StringIO) -> None:
    a_running_sandbox(root, "a" * 40)
    assert run("status")[0] == 0
    lines = said.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert any("running" in line and "https://127.0.0.1:29999" in line for line in lines)


def test_status_tells_of_a_dead_component_with_exit_code_1_until_it_is_taken_down(
    root: Path, said: io.StringIO
) -> None:
    folder = root / "box"
    folder.mkdir(parents=True)
    (folder / folders.OWNER_FILE).write_text(json.dumps({"pid": 1, "started": "an earlier boot"}))
    (folder / folders.FAILURE_FILE).write_text("etcd was ended by SIGKILL; the end of its log:\n[last] words")
    assert run("status")[0] == 1
    assert "box: etcd was ended by SIGKILL; the end of its log:\n[last] words\n" in said.getvalue()
    assert run("down", "--name", "box")[0] == 0
    assert said.getvalue().endswith("Sandbox 'box' had ended; what it left is removed.\n")
    assert run("status")[0] == 0


def test_status_for_programs_is_one_line_of_json(root: Path) -> None:
    a_running_sandbox(root, "box")
    code, text = run("status", "--json")
    (report,) = json.loads(text)
    assert code == 0
    assert (report["name"], report["state"]) == ("box", "running")
    assert report["kubeconfig"] == str(root / "box" / "kubeconfig")


def test_kubeconfig_prints_the_path_alone_or_the_content(root: Path) -> None:
    a_running_sandbox(root, "default")
    assert run("kubeconfig") == (0, f"{root / 'default' / 'kubeconfig'}\n")
    assert run("kubeconfig", "--content") == (0, "kind: Config\n")


@pytest.mark.usefixtures("root")
def test_kubeconfig_of_a_sandbox_that_is_not_up_says_how_to_start_it(said: io.StringIO) -> None:
    assert run("kubeconfig", "-n", "box") == (2, "")
    assert "start it with: bareboat sandbox up --name box" in said.getvalue()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("command", ["up", "down", "kubeconfig"])
def test_a_bad_name_is_refused_with_exit_code_2(said: io.StringIO, command: str) -> None:
    assert run(command, "--name", "../other") == (2, "")
    assert "sandbox name is '../other'; allowed are" in said.getvalue()


def test_down_leaves_a_sandbox_alone_that_lives_in_another_program(root: Path, said: io.StringIO) -> None:
    a_running_sandbox(root, "box")
    assert run("down", "-n", "box")[0] == 1
    assert "belongs to process" in said.getvalue()
    assert (root / "box").exists()


@pytest.mark.usefixtures("root")
def test_a_bad_setting_names_the_variable_and_its_value(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAREBOAT_SANDBOX_PROBE_TIMEOUT_S", "soon")
    assert run("status") == (2, "")
    assert "BAREBOAT_SANDBOX_PROBE_TIMEOUT_S is 'soon'" in said.getvalue()


def test_progress_away_from_a_terminal_is_a_line_per_step_and_one_now_and_then(said: io.StringIO) -> None:
    with sandbox.progress() as show:
        for second in range(40):
            show(binaries.Progress("building", "etcd", 1, 2, float(second)))
        show(binaries.Progress("downloading", "kubectl", 2, 2, 83.0, 0.5))
    assert said.getvalue().splitlines() == [
        sandbox.LONG_BUILD,
        "Building etcd (1 of 2), 0:00 so far; only needed this once",
        "Building etcd (1 of 2), 0:15 so far; only needed this once",
        "Building etcd (1 of 2), 0:30 so far; only needed this once",
        "Downloading kubectl (2 of 2, 50% of it), 1:23 so far; only needed this once",
    ]


@pytest.mark.usefixtures("root", "on_path")
def test_up_without_any_way_to_the_programs_is_one_sentence_and_exit_code_1(
    said: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("KUBERNETES_URL", "ETCD_URL"):
        monkeypatch.setenv(f"BAREBOAT_SANDBOX_{variable}", conftest.REFUSED)
    assert run("up") == (1, "")
    (looked, sentence) = said.getvalue().splitlines()
    assert looked == "Looking for a release of etcd (1 of 5), 0:00 so far; only needed this once"
    assert sentence.startswith("bareboat sandbox: install Go 1.26 or newer")
