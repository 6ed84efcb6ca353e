"""Writes docs/pod-fields.md from the table that the node itself uses: every field of a pod's spec and its fate.

python tools/pod_fields.py docs/pod-fields.md
"""

import collections
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from bareboat.workload.fields import rows, table

BEGINNING = f"""\
# What becomes of a pod's fields

Written by `make docs` from the table in `workload/fields` that the node applies; a test fails when the two differ, and
another one when an API server's description (Kubernetes {table.KUBERNETES}) has a field that is not here.

Two ways of access, chosen by the annotation `bareboat.dev/access: ssh|plain` or by the node's default: **ssh** (a
runner beside the pod's processes) and **plain** (the cloud alone).

- **honoured**: as a kubelet does it.
- **emulated**: the same to the workload, by other means.
- **left out**: the pod runs without; where a sentence with a field's path is quoted, an Event `NotHonoured` says it.
- **rejected**: nothing is rented, and the pod's status and an Event `Unsupported` quote the sentence with the field's
  path. `…` stands for what was found.
"""
LONG = 40


def text() -> str:
    """The whole document."""
    kinds: dict[str, list[rows.Row]] = collections.defaultdict(list)
    for row in table.ROWS:
        kinds[row.kind].append(row)
    alike = {kind: members for kind, members in kinds.items() if _alike(members)}
    parts = [BEGINNING]
    for kind, members in kinds.items():
        if kind not in alike:
            parts.append("\n".join([f"## {kind}", "", *_table(members)]) + "\n")
    parts.append("\n".join(["## Kinds whose fields all fare alike", "", *_short(alike)]) + "\n")
    return "\n".join(parts)


def _alike(members: list[rows.Row]) -> bool:
    return len({(row.plain, row.ssh, row.rules) for row in members}) == 1 and not members[0].rules


def _table(members: list[rows.Row]) -> Iterator[str]:
    yield "| Field | ssh | plain |"
    yield "|---|---|---|"
    for fate, several in itertools.groupby(members, key=lambda row: (row.plain, row.ssh, row.rules)):
        names = ", ".join(f"`{row.field}`" for row in several)
        yield f"| {names} | {_cells(rows.Row('', '', *fate))} |"


def _short(alike: dict[str, list[rows.Row]]) -> Iterator[str]:
    yield "| Kind | Fields | ssh | plain |"
    yield "|---|---|---|---|"
    for kind, members in alike.items():
        names = ", ".join(f"`{row.field}`" for row in members)
        yield f"| {kind} | {names} | {_cells(members[0])} |"


def _cells(row: rows.Row) -> str:
    ssh, plain = (_cell(row, access) for access in (rows.Access.SSH, rows.Access.PLAIN))
    return f"{ssh} | {'as in ssh' if plain == ssh and len(plain) > LONG else plain}"


def _cell(row: rows.Row, access: rows.Access) -> str:
    said = [_rule(rule) for rule in row.rules if access in rule.access]
    handling = row.handling(access)
    # A bare "honoured" beside a rule would say the opposite of the rule.
    if not said or handling.how or handling.verdict is not rows.Verdict.HONOURED:
        said.insert(0, f"{handling.verdict}: {handling.how}" if handling.how else str(handling.verdict))
    return "<br>".join(_escaped(each) for each in said)


def _rule(rule: rows.Rule) -> str:
    verdict = rows.Verdict.REJECTED if rule.fatal else rows.Verdict.LEFT_OUT
    return f"{verdict}: “{rule.why.replace('{value}', '…')}” ({rule.field})"


def _escaped(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;").replace("[*]", "\\[\\*]")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text())
