"""Prints the table: each row's command line, and whether what came out is what must come, in ssh and plain access.

`python tests/e2e/kubectl/table.py [WORD…]`: the rows whose line has one of the words, or all. Exit code 1 if one fails.
"""

import asyncio
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.e2e.kubectl import ground, log_rows, object_rows, rows, stream_rows

from bareboat.sandbox import controlplane

ROWS = (*log_rows.TABLE, *stream_rows.TABLE, *object_rows.TABLE)
WIDTH = 80


def play(row: rows.Row, mode: str, on: ground.Ground) -> str:
    """Empty when it is as it must be, else what was wrong."""
    check = row.check(mode)
    assert check is not None
    try:
        check(on, row.words(on, mode))
    except (AssertionError, OSError) as wrong:
        return str(wrong) or type(wrong).__name__
    finally:
        tidy(on)
    return ""


def tidy(on: ground.Ground) -> None:
    """Whatever a row has made under the name for new pods is gone before the next."""
    for name in ("new", "new-plain", "shell", "quick", "short"):
        if on.stage.cluster.find("pods", name) is not None:
            on.run(["delete", "pod", name, "--force", "--grace-period=0"])


def told(number: int, row: rows.Row, results: dict[str, str | None]) -> Iterator[str]:
    """Its lines of at most `WIDTH` characters."""
    words = {None: "-", "": "ok"}
    cells = "".join(f"{words.get(results[mode], 'FAIL'):<6}" for mode in rows.MODES)
    yield f"{number:>2}  {cells}{cut('kubectl ' + row.line.replace('{{', '{').replace('}}', '}'), WIDTH - 16)}"
    yield f"{'':16}{cut('→ ' + row.what, WIDTH - 16)}"


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def main(wanted: list[str]) -> int:
    chosen = [each for each in ROWS if not wanted or any(word in each.line for word in wanted)]
    out = sys.stdout
    out.write(f"{'#':>2}  {'ssh':<6}{'plain':<6}a command line, and what must come of it\n")
    began_s, good, troubles = time.monotonic(), 0, []
    sandbox = controlplane.ControlPlane()
    asyncio.run(sandbox.start())
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()) as node_log,
            tempfile.TemporaryDirectory() as folder,
            ground.opened(sandbox, Path(folder)) as on,
        ):
            for number, row in enumerate(chosen, 1):
                results = {mode: play(row, mode, on) if row.check(mode) else None for mode in rows.MODES}
                wrong = [f"{number} in {mode} access: {each}" for mode, each in results.items() if each]
                good += not wrong
                troubles += wrong
                out.write("\n".join([*told(number, row, results), ""]))
                out.flush()
    finally:
        asyncio.run(sandbox.stop())
    out.write(f"\n{good}/{len(chosen)} rows in {time.monotonic() - began_s:.0f} s\n")
    if troubles:
        out.write("\n".join(["", *troubles, "", node_log.getvalue()]))
    return 1 if troubles else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
