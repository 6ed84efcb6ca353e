"""How `bareboat proxy` becomes the process that serves: what was read from the environment goes over a pipe, and the
program is replaced by one that has nothing to parse. Same pid, same environment, 15 MiB less: command line and
settings come with libraries that are of no use afterwards."""

import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn

from bareboat.core import errors
from bareboat.plumbing import supervise
from bareboat.proxy import program, renting

MODULE = "bareboat.proxy"
_PIPE_BYTES = 60_000


@dataclass(frozen=True, slots=True)
class Handed:
    """What the serving process gets. `cloud` has made no call yet and is bound to no event loop."""

    plan: program.Plan
    cloud: renting.Account
    log_format: Literal["text", "json"]
    log_level: str


def become(handed: Handed) -> NoReturn:
    """Replaces this process. Raises `ValueError` when too much was told, `OSError` when it can't be done."""
    told = pickle.dumps(handed)
    if len(told) > _PIPE_BYTES:
        raise ValueError(f"the settings take {len(told)} bytes, more than {_PIPE_BYTES}; is VAST_SEARCH_QUERY meant?")
    reading, writing = os.pipe()
    os.write(writing, told)
    os.close(writing)
    os.set_inheritable(reading, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", MODULE, str(reading)])


def taken(descriptor: int) -> Handed:
    """What `become` has handed over."""
    with os.fdopen(descriptor, "rb") as pipe:
        handed = pickle.load(pipe)
    assert isinstance(handed, Handed)
    return handed


def exit_code(work: Callable[[], None]) -> int:
    """Runs `work`; what ends it early is told in a line on standard error, never by a traceback, nor with a secret."""
    try:
        work()
    except ValueError as wrong:  # settings, templates and configurations of nginx, the URL of Redis
        return _told(str(wrong), 2)
    except OSError as trouble:
        return _told(f"can't listen: {trouble}", 1)
    except errors.CloudError as trouble:
        return _told(str(trouble), 1)
    except supervise.Fatal as fatal:
        return _told(str(fatal), fatal.exit_code)
    return 0


def warn(why: str) -> None:
    """A line on standard error for people."""
    sys.stderr.write("".join(f"bareboat proxy: {line}\n" for line in why.splitlines()))


def _told(why: str, code: int) -> int:
    warn(why)
    return code
