"""Settings of the kubelet API that a kubelet has as flags, under the same names and with the same meanings.

By default the API server is asked about every caller; anything laxer has to be asked for, and the server warns of it.
"""

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
import pydantic_settings

if TYPE_CHECKING:
    # The settings are read by every command, the API is loaded by one.
    from bareboat.kubelet import authn, authz, server

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)


def seconds(value: Any) -> Any:
    """Of a text as Go writes durations (`4h0m0s`, `30s`, `0`); what is no text comes back. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    parts = _PART.findall(value)
    if value != "0" and (not parts or "".join(number + unit for number, unit in parts) != value):
        raise ValueError("allowed are durations such as 30s, 5m or 4h0m0s")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


Duration = Annotated[float, pydantic.BeforeValidator(seconds), pydantic.Field(ge=0, allow_inf_nan=False)]


class Flags(pydantic_settings.BaseSettings):
    """The node's settings have these among their own."""

    anonymous_auth: bool = pydantic.Field(
        False, description="Kubelet API: callers without credentials are taken as system:anonymous."
    )
    authentication_token_webhook: bool = pydantic.Field(
        True, description="Kubelet API: the API server is asked about bearer tokens."
    )
    authentication_token_webhook_cache_ttl: Duration = pydantic.Field(
        120.0, description="How long its answer holds, such as 2m."
    )
    authorization_mode: Literal["Webhook", "AlwaysAllow"] = pydantic.Field(
        "Webhook", description="Kubelet API: Webhook asks the API server; AlwaysAllow lets in whoever is known."
    )
    authorization_webhook_cache_authorized_ttl: Duration = pydantic.Field(
        300.0, description="How long its yes holds, such as 5m."
    )
    authorization_webhook_cache_unauthorized_ttl: Duration = pydantic.Field(
        30.0, description="How long its no holds, such as 30s."
    )
    enable_debugging_handlers: bool = pydantic.Field(
        True, description="Kubelet API: logs, exec, attach, port-forward and the list of running pods."
    )
    streaming_connection_idle_timeout: Duration = pydantic.Field(
        14400.0, description="Exec, attach and port-forward without any traffic end after this, such as 4h; 0: never."
    )

    def authentication(self) -> "authn.Settings":
        from bareboat.kubelet import authn

        return authn.Settings(
            self.anonymous_auth, self.authentication_token_webhook, self.authentication_token_webhook_cache_ttl
        )

    def authorization(self) -> "authz.Settings":
        from bareboat.kubelet import authz

        return authz.Settings(
            self.authorization_mode,
            self.authorization_webhook_cache_authorized_ttl,
            self.authorization_webhook_cache_unauthorized_ttl,
        )

    def serving(self, host: str, port: int) -> "server.Settings":
        from bareboat.kubelet import routes, server
        from bareboat.kubelet.streams import watch

        return server.Settings(
            host=host,
            port=port,
            endpoints=routes.Settings(enable_debugging_handlers=self.enable_debugging_handlers),
            streams=watch.Limits(idle_s=self.streaming_connection_idle_timeout or math.inf),
        )
