"""The part of the hand behind the world that every simulated cloud has: time, faults, switches, money, keys.

A cloud's own control adds what only that cloud knows, and serves all of it.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from bareboat.plumbing import clock as clocks
from bareboat.simulation import clock as simulated
from bareboat.simulation import estate as estates
from bareboat.simulation import faults, faultscript

FOREVER_S = 1e12


class NotThere(LookupError):
    """What a control names does not exist (any more)."""


class Switches(Protocol):
    def change(self, values: Mapping[str, Any]) -> None:
        """Raises a ValueError that names the switch, the value and what is allowed."""
        ...


class Account(Protocol):
    api_keys: set[str]


class Held(Protocol):
    """A simulator, as far as the hand holds it."""

    @property
    def estate(self) -> estates.Estate: ...

    @property
    def switches(self) -> Switches: ...

    @property
    def account(self) -> Account: ...

    def schedule(self, rule: faults.Rule) -> None:
        """Puts a fault with a moment of its own on the agenda."""
        ...


class Hand:
    """Every method takes effect at once, at the simulation's present."""

    def __init__(self, held: Held, catalogue: faults.Catalogue) -> None:
        self._held = held
        self._catalogue = catalogue

    async def advance(self, seconds: float) -> None:
        """Moves the clock on by simulated seconds; impossible with a clock that only real time moves."""
        clock = self._held.estate.clock
        if not isinstance(clock, clocks.ManualClock | simulated.SimulatedClock):
            raise ValueError(f"a {type(clock).__name__} can't be advanced")
        await clock.advance(seconds)
        self._held.estate.now()

    def set_speed(self, speed: float) -> None:
        clock = self._held.estate.clock
        if not isinstance(clock, simulated.SimulatedClock):
            raise ValueError(f"a {type(clock).__name__} has no speed to change")
        clock.set_speed(speed)

    def add_fault(self, name: str, rule: Any = None) -> None:
        """Adds a rule in the script's words; without one the fault strikes at the next opportunity, once.

        Raises faults.BadScript.
        """
        parsed = faultscript.parse_rule(name, {"count": 1} if rule is None else rule, self._catalogue)
        self._held.estate.faults.add(parsed)
        if parsed.at_s is not None:
            self._held.schedule(parsed)

    def clear_faults(self, name: str | None = None) -> None:
        self._held.estate.faults.clear(name)

    def switch(self, **values: Any) -> None:
        """Raises the cloud's BadSwitch."""
        self._held.switches.change(values)

    def set_credit(self, usd: float) -> None:
        """What is left to spend from now on."""
        estate = self._held.estate
        now_s = estate.now()
        estate.credit_given_usd = usd + estate.ledger.spent_by(now_s).total
        estate.check_credit(now_s)

    def revoke_key(self, key: str | None = None) -> None:
        """One API key, or all of the account."""
        keys = self._held.account.api_keys
        keys.difference_update({key} if key else set(keys))

    def add_key(self, key: str) -> None:
        self._held.account.api_keys.add(key)
