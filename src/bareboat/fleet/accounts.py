"""One account on one cloud with the two parts that look after its instances."""

from dataclasses import dataclass

from bareboat.core import cloud as clouds
from bareboat.fleet import reaper as reapers
from bareboat.fleet import watcher as watchers


@dataclass(frozen=True, slots=True)
class Account:
    """Made once at start; its watcher and reaper run for as long as the program."""

    cloud: clouds.Cloud
    watcher: watchers.Watcher
    reaper: reapers.Reaper
