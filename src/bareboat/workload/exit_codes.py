"""How an exit code gets out of a cloud that tells none: a wrapper around the pod's command writes it as its last line.

The line never reaches `kubectl logs`. The wrapper needs `/bin/sh` in the image and a command in the pod; a pod turns it
off with `bareboat.dev/exit-code: "off"`.
"""

import re
from collections.abc import Sequence

_TRAILER = re.compile(r"^bareboat: exit (\d{1,3}) attempt (\S+)\s*$")
# Short: the clouds count the characters of a command.
_SCRIPT = (
    'm=${TMPDIR:-/tmp}/.bareboat-OWNER-ATTEMPT; w=; if [ -s "$m" ]; then read c <"$m"; w=1; else "$@"; c=$?; '
    '(echo $c >"$m") 2>/dev/null; fi; printf "\\nbareboat: exit %s attempt ATTEMPT\\n" $c; '
    'while [ "$w" ]; do sleep 3600; done; exit $c'
)


def wrap(
    command: Sequence[str], args: Sequence[str], attempt: str, owner: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(command, args) that run `command` + `args` and report how they ended.

    Where a host starts an ended container again, the work is not done twice: its code is reported again and the
    container stays idle. That holds as far as the container's disk outlives the restart.
    """
    script = _SCRIPT.replace("ATTEMPT", attempt).replace("OWNER", owner)
    return ("/bin/sh",), ("-c", script, "sh", *command, *args)


def find(log: str, attempt: str) -> int | None:
    """The code that the wrapper of this attempt wrote; None when its line is not there (yet)."""
    for line in reversed(log.splitlines()):
        match = _TRAILER.match(line)
        if match and match[2] == attempt:
            return int(match[1])
    return None


def is_trailer(line: str) -> bool:
    """Whether a log line is the wrapper's and not the workload's."""
    return _TRAILER.match(line) is not None


def strip(log: str) -> str:
    """The workload's own output: without the wrapper's lines and the line break that it put before each."""
    kept: list[str] = []
    for line in log.splitlines(keepends=True):
        if not is_trailer(line):
            kept.append(line)
        elif kept and kept[-1].endswith("\n"):
            kept[-1] = kept[-1][:-1]
    return "".join(kept)
