"""The table's rows, each a test."""

from collections.abc import Iterator

import pytest
from tests.e2e.kubectl import ground, rows, table

from bareboat.sandbox import controlplane

CASES = [(row, mode) for row in table.ROWS for mode in rows.MODES if row.check(mode) is not None]


@pytest.fixture(scope="module")
def on(sandbox: controlplane.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ground.Ground]:
    with ground.opened(sandbox, tmp_path_factory.mktemp("table")) as opened:
        yield opened


@pytest.mark.parametrize(("row", "mode"), CASES, ids=[f"{mode}: {row.line[:60]}" for row, mode in CASES])
def test_a_command_line_does_what_it_must(on: ground.Ground, row: rows.Row, mode: str) -> None:
    wrong = table.play(row, mode, on)
    assert not wrong, wrong


def test_the_table_has_forty_rows_that_fit_a_terminal() -> None:
    assert len(table.ROWS) == 40
    for number, row in enumerate(table.ROWS, 1):
        assert all(len(line) <= 80 for line in table.told(number, row, {"ssh": "no", "plain": None}))
