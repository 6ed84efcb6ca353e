"""Disputed behaviour of RunPod: one switch each, with the default that keeps a client honest."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints


class BadSwitch(ValueError):
    """A switch of that name or value does not exist; the message names what is allowed."""


@dataclasses.dataclass(slots=True)
class Switches:
    """Change them at any time; each request looks afresh. The README has a line for each."""

    rate_limits: bool = True
    per_minute: int = 60
    per_hour: int = 3000
    per_day: int = 50_000
    v1: Literal["on", "404", "410"] = "on"
    graphql: Literal["on", "404", "410"] = "on"
    v2: Literal["on", "404"] = "on"
    page: int = 0
    refuse_default_agent: bool = True
    capacity_status: Literal["400", "500", "mixed"] = "mixed"
    lag_s: float = 0.0
    port_delay_s: float = 0.0
    ssh_delay_s: float = 2.0
    public_ip: Literal["loopback", "host"] = "loopback"
    outbid: Literal["EXITED", "TERMINATED"] = "EXITED"
    on_exit: Literal["restart", "exited"] = "restart"
    stock_luck: bool = False

    def change(self, values: Mapping[str, Any]) -> None:
        """Sets several; raises BadSwitch, then none is set."""
        checked = {name: _checked(name, value) for name, value in values.items()}
        for name, value in checked.items():
            setattr(self, name, value)


def _checked(name: str, value: Any) -> Any:
    hints = get_type_hints(Switches)
    if name not in hints:
        raise BadSwitch(f"switches.{name} does not exist; there are {', '.join(hints)}")
    wanted = hints[name]
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted in (int, float) and isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return wanted(value)
    text = {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    if text in get_args(wanted):
        return text
    allowed = "true or false" if wanted is bool else ", ".join(get_args(wanted)) or "a number, 0 or more"
    raise BadSwitch(f"switches.{name} is {value!r}; allowed is {allowed}")
