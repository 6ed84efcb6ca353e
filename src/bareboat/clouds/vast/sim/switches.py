"""Disputed behaviour of Vast.ai: one switch each, with the default that keeps a client honest. Sources disagree on all
of these; a client has to live with every value."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints


class BadSwitch(ValueError):
    """A switch of that name or value does not exist; the message names what is allowed."""


@dataclasses.dataclass(slots=True)
class Switches:
    """Change them at any time; each request looks afresh. The README has a line for each.

    `hard_cap` is the most offers one search returns whatever limit is asked (0: no cap). `port_delay_s` lies between
    running and the first ports, besides the fault `ports_late`. `on_exit` is what becomes of an args instance whose
    process has ended. `penalty` applies the longer wait that PUT /asks/ names after a violation. `public_ip` "loopback"
    publishes the address on which mapped ports really answer. `lag_s` is a list lag that always applies.
    """

    rate_limits: bool = True
    penalty: bool = True
    rate_limit_body: Literal["text", "threshold_text", "json", "json_error"] = "text"
    wrong_key: Literal["404", "401"] = "404"
    anonymous_search: bool = True
    v0_list: Literal["ok", "paginated25", "gone410"] = "gone410"
    no_such_ask: Literal["400", "404", "410"] = "400"
    destroyed_again: Literal["no_such_instance", "not_found"] = "no_such_instance"
    hard_cap: int = 64
    default_limit: int = 64
    id_filter: bool = False
    server_defaults: bool = False
    label_counts: Literal["account", "filtered"] = "account"
    total_instances: Literal["filtered", "account"] = "filtered"
    neq_finds_null: bool = True
    lag_s: float = 0.0
    port_delay_s: float = 0.0
    identity_port_key: Literal["actual", "asked"] = "actual"
    port_number: Literal["right", "left"] = "right"
    ipv6_twin: bool = False
    too_few_ports: Literal["error", "missing"] = "error"
    untagged_image: Literal["ok", "error"] = "ok"
    on_exit: Literal["exited", "restart"] = "exited"
    public_ip: Literal["loopback", "host"] = "loopback"
    address_newline: bool = True
    template_false_overrides: bool = True
    template_shows_password: bool = False
    max_page: int = 25
    list_order: Literal["asc", "desc"] = "asc"
    ssh_delay_s: float = 0.0
    ssh_key_delay_s: float = 3.0
    ssh_noise: bool = True
    ssh_max_sessions: int = 10
    ssh_sftp: bool = True

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
    if str(value) in get_args(wanted):
        return str(value)
    allowed = "true or false" if wanted is bool else ", ".join(get_args(wanted)) or "a number, 0 or more"
    raise BadSwitch(f"switches.{name} is {value!r}; allowed is {allowed}")
