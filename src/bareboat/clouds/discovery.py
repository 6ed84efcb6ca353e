"""Finds the clouds: each folder beside this file that has a `settings` module is one. Nothing else lists them.

Such a module has `Settings` (a pydantic-settings class: everything that can be set about the cloud) and
`open(settings, clock)` (the cloud behind the seam; `ValueError` with a sentence for people when settings don't do).
"""

import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass
from typing import Any

import pydantic

from bareboat import clouds
from bareboat.core import cloud
from bareboat.plumbing import clock as clocks


@dataclass(frozen=True, slots=True)
class Driver:
    """One kind of cloud. `settings()`, called without values, reads the environment."""

    name: str
    settings: type[pydantic.BaseModel]
    _module: Any

    def open(self, settings: pydantic.BaseModel, clock: clocks.Clock) -> cloud.Cloud:
        """The cloud, without a call made. Raises `ValueError` with a sentence when the settings don't do."""
        opened: cloud.Cloud = self._module.open(settings, clock)
        return opened


def names() -> list[str]:
    """The folders, in order of the alphabet; imports no driver."""
    return sorted(
        found.name
        for found in pkgutil.iter_modules(clouds.__path__)
        if found.ispkg and importlib.util.find_spec(f"{clouds.__name__}.{found.name}.settings") is not None
    )


def driver(name: str) -> Driver:
    """The driver of that name. Raises `ValueError` that lists the names there are."""
    known = names()
    if name not in known:
        raise ValueError(f"there is no cloud {name!r}; there are: {', '.join(known) or 'none'}")
    module = importlib.import_module(f"{clouds.__name__}.{name}.settings")
    return Driver(name, module.Settings, module)


def drivers() -> list[Driver]:
    """All of them."""
    return [driver(name) for name in names()]
