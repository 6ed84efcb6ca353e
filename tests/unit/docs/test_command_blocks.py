"""Every command that the documents show exists: make targets, `bareboat` commands with their options."""

import re
import shlex
from pathlib import Path

import pytest
import typer.testing
import yaml

from bareboat.cli import main
from bareboat.workload import annotations

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/README.md")])
BLOCK = re.compile(r"```(?:bash|sh|shell|console)\n(.*?)```", re.DOTALL)
VARIABLE = re.compile(r"^[A-Z_]+=\S*$")


def commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for block in BLOCK.findall(document.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                text = line.strip().removeprefix("$ ")
                if text and not text.startswith("#"):
                    found.append((str(document.relative_to(ROOT)), text))
    return found


def words(text: str) -> list[str]:
    """The command's words, without variables set before it, comments and what follows a pipe or redirection."""
    parts = shlex.split(text, comments=True)
    while parts and VARIABLE.match(parts[0]):
        parts.pop(0)
    for stop in ("|", ">", "2>", "&&", "&", ";"):
        if stop in parts:
            parts = parts[: parts.index(stop)]
    return parts


TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_documents_show_commands() -> None:
    assert len(commands()) >= 10


@pytest.mark.parametrize(("document", "text"), commands())
def test_command_exists(document: str, text: str) -> None:
    parts = words(text)
    if not parts:
        return
    program, rest = Path(parts[0]).name, parts[1:]
    if program == "make":
        for target in [word for word in rest if not word.startswith("-") and "=" not in word]:
            assert target in TARGETS, f"{document}: make has no target {target!r}"
    elif program == "bareboat":
        path = []
        for word in rest:
            if word.startswith("-"):
                break
            path.append(word)
        assert path, f"{document}: {text!r} names no command"
        help_text = help_of(path)
        for option in [word.partition("=")[0] for word in rest if word.startswith("--")]:
            assert option in help_text, f"{document}: bareboat {' '.join(path)} has no {option}"


def help_of(path: list[str]) -> str:
    """The help of the longest part of `path` that is a command; what follows it are arguments."""
    runner = typer.testing.CliRunner()
    for length in range(len(path), 0, -1):
        result = runner.invoke(main.app, [*path[:length], "--help"], env={"COLUMNS": "200"})
        if result.exit_code == 0:
            return result.output
    raise AssertionError(f"there is no command bareboat {path[0]}")


def test_the_readme_shows_a_pod_that_is_read_as_meant() -> None:
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    pod = yaml.safe_load(block[1])
    notes = annotations.Annotations(pod["metadata"]["annotations"])
    assert notes.words(annotations.GPU_NAMES) == ("RTX 4090", "RTX 3090")
    assert notes.number(annotations.MAX_PRICE, 0, 10, "$/h") == 0.40


def test_the_readme_names_every_annotation_that_is_read() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in (*annotations.SPELLINGS, annotations.RENT, annotations.EXIT_CODE):
        if name != annotations.CLOUDS:
            assert f"`{name}`" in readme, name
