"""The versions that are asked for, pinned and accepted are one and the same."""

import platform
import re
import sys
from pathlib import Path

import pytest

from bareboat.sandbox import builds, programs


def a_program(folder: Path, says: str, *, exit_code: int = 0) -> Path:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("program", programs.ALL, ids=lambda program: program.name)
def test_the_pinned_module_is_of_the_version_that_is_said(program: programs.Program) -> None:
    pinned = (builds.MODULES / program.module / "go.mod").read_text()
    root = {"kubernetes": "k8s.io/kubernetes", "etcd": "go.etcd.io/etcd/server/v3"}[program.module]
    assert re.search(rf"^\s*{re.escape(root)} {re.escape(program.version)}\b", pinned, re.MULTILINE)
    assert f"tool {program.package}\n" in pinned or f"\t{program.package}\n" in pinned
    assert program.version.removeprefix("v").rsplit(".", 1)[0] in program.accepted_minors


@pytest.mark.parametrize(
    ("says", "minor"),
    [
        ("Kubernetes v1.36.3", "1.36"),
        ("Client Version: v1.32.0\nKustomize Version: v5.5.0", "1.32"),
        ("etcd Version: 3.6.16\nGit SHA: Not provided\nGo Version: go1.26.8", "3.6"),
        ("Kubernetes v1.36.4-rc.0+abc", "1.36"),
        ("Kubernetes v0.0.0-master+$Format:%H$", None),
        ("hello", None),
        ("", None),
    ],
)
def test_a_program_is_asked_for_its_version(tmp_path: Path, says: str, minor: str | None) -> None:
    assert programs.ask_minor(programs.KUBE_APISERVER, a_program(tmp_path, says)) == minor


def test_an_unknown_platform_is_told_with_those_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    with pytest.raises(programs.UnknownPlatform, match=f"amd64 or arm64 processors; this is {sys.platform} on s390x"):
        programs.this_platform()
