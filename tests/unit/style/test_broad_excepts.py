"""Outside of plumbing, where parts are supervised, whoever catches everything cleans up and raises again."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bareboat

SOURCE = Path(bareboat.__file__).parent
BROAD = {"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"}


def names(caught: ast.expr | None) -> set[str]:
    """The classes that a handler names, without their modules; a bare `except` names the broadest."""
    if caught is None:
        return {"BaseException"}
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return {part.id if isinstance(part, ast.Name) else getattr(part, "attr", "") for part in parts}


def own_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of the block itself and of blocks in it, not of functions defined there."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for child in ast.iter_child_nodes(statement):
                if isinstance(child, ast.stmt):
                    yield from own_statements([child])
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from own_statements(child.body)


def raises_again(handler: ast.ExceptHandler) -> bool:
    leaves = (ast.Return, ast.Continue, ast.Break)
    return isinstance(handler.body[-1], ast.Raise) and not any(
        isinstance(each, leaves) for each in own_statements(handler.body)
    )


def swallowed(source: str) -> list[int]:
    """Lines on which everything is caught and not raised again."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and names(node.type) & BROAD and not raises_again(node):
            found.append(node.lineno)
        if isinstance(node, ast.Call) and names(node.func) == {"suppress"} and any(names(a) & BROAD for a in node.args):
            found.append(node.lineno)
    return sorted(found)


def test_nothing_outside_of_plumbing_swallows_every_exception() -> None:
    files = [path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] != "plumbing"]
    assert len(files) > 100
    found = [f"{path.relative_to(SOURCE)}:{line}" for path in files for line in swallowed(path.read_text())]
    assert found == [], "catch what can be answered here, or clean up and raise; the rest is the supervisor's"


@pytest.mark.parametrize(
    "handler",
    [
        "except Exception: pass",
        "except BaseException as e: log(e)",
        "except: pass",
        "except (ValueError, Exception): x = 1",
        "except builtins.Exception: x = 1",
        "except* Exception: pass",
        "except BaseExceptionGroup as several: log(several)",
        "except Exception:\n  if x:\n    raise",
        "except Exception:\n  if x:\n    return\n  raise",
        "except Exception:\n  try: pass\n  except OSError: return\n  raise",
    ],
)
def test_a_handler_that_swallows_is_found(handler: str) -> None:
    assert swallowed(f"def f():\n try: pass\n {handler.replace(chr(10), chr(10) + ' ')}")


@pytest.mark.parametrize(
    "handler",
    [
        "except ValueError: pass",
        "except BaseException:\n  close()\n  raise",
        "except BaseException as e:\n  def g():\n    return 1\n  raise Other() from e",
    ],
)
def test_a_handler_that_is_narrow_or_raises_again_is_not(handler: str) -> None:
    assert swallowed(f"def f():\n try: pass\n {handler.replace(chr(10), chr(10) + ' ')}") == []


def test_a_suppression_of_everything_is_found() -> None:
    assert swallowed("with contextlib.suppress(OSError, Exception): pass") == [1]
    assert swallowed("with contextlib.suppress(OSError): pass") == []
