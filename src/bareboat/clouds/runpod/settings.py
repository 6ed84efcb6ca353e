"""What can be set about RunPod, from the environment; and the cloud that comes of it."""

import re
import urllib.parse
from typing import Literal

import pydantic
import pydantic_settings

from bareboat.clouds.runpod import api, cloud
from bareboat.plumbing import clock as clocks

_V1 = "https://rest.runpod.io/v1"
_HOME = "https://api.runpod.io"


class Settings(pydantic_settings.BaseSettings):
    """Each is an environment variable `RUNPOD_…`; the names of other programs for RunPod work as well."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="RUNPOD_", extra="ignore", hide_input_in_errors=True, populate_by_name=True
    )

    api_key: pydantic.SecretStr = pydantic.Field(
        default=pydantic.SecretStr(""),
        validation_alias=pydantic.AliasChoices("RUNPOD_API_KEY", "RUNPOD_KEY"),
        description="The account's key, from the page Settings of RunPod's console.",
    )
    url: str = pydantic.Field(
        default=_HOME,
        validation_alias=pydantic.AliasChoices("RUNPOD_URL", "RUNPOD_API_BASE_URL"),
        description="Where v2 and GraphQL are (without /v2 and /graphql); a simulator's address works as well.",
    )
    v1_url: str = pydantic.Field(
        default="",
        validation_alias=pydantic.AliasChoices("RUNPOD_V1_URL", "RUNPOD_API_URL"),
        description="Where REST v1 is, with its /v1. Empty: RunPod's, or /v1 of a RUNPOD_URL that is another.",
    )
    graphql_url: str = pydantic.Field(
        default="", description="Where GraphQL is, with its /graphql. Empty: /graphql of RUNPOD_URL."
    )
    clouds: str = pydantic.Field(
        default="SECURE,COMMUNITY", description="Which of RunPod's two clouds are searched: SECURE, COMMUNITY or both."
    )
    rate_limit: Literal["on", "off"] = pydantic.Field(
        default="on",
        description="Whether RunPod's quotas are kept to as its answers tell them; `off` is for simulators.",
    )
    timeout_s: float = pydantic.Field(default=30.0, gt=0, le=600, description="Longest wait for one answer.")
    create_timeout_s: float = pydantic.Field(
        default=90.0, gt=0, le=600, description="Longest wait for the answer to a create."
    )
    patience_s: float = pydantic.Field(
        default=90.0,
        gt=0,
        le=3600,
        description="Longest wait for one piece of work: its turn, its answers, its repetitions.",
    )
    tries: int = pydantic.Field(default=4, ge=1, le=20, description="How often something harmless is asked at most.")
    visibility_window_s: float = pydantic.Field(
        default=60.0,
        gt=0,
        le=3600,
        description="How long a new pod may be missing from lists; shorter only for simulators on a fast clock.",
    )

    @pydantic.field_validator("api_key")
    @classmethod
    def _key_is_a_word(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        key = value.get_secret_value().strip()
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise ValueError("it holds blanks, line breaks or letters beyond ASCII; it has to be one word")
        return pydantic.SecretStr(key)

    @pydantic.field_validator("url", "v1_url", "graphql_url")
    @classmethod
    def _url_is_one(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        parts = urllib.parse.urlsplit(value)
        if value and (parts.scheme not in ("https", "http") or not parts.hostname or re.search(r"\s", value)):
            raise ValueError("it has to be https://HOST (or http://HOST:PORT for a simulator)")
        return value

    @pydantic.field_validator("clouds")
    @classmethod
    def _clouds_are_known(cls, value: str) -> str:
        names = [name.strip().upper() for name in value.split(",") if name.strip()]
        if not names or not set(names) <= {"SECURE", "COMMUNITY"}:
            raise ValueError("it has to be SECURE, COMMUNITY or SECURE,COMMUNITY")
        return ",".join(dict.fromkeys(names))

    def bases(self) -> api.Bases:
        """Where the three APIs are. A single other URL is that of a simulator, which has all three."""
        home = self.url or _HOME
        return api.Bases(
            v2=f"{home}/v2",
            v1=self.v1_url or (_V1 if home == _HOME else f"{home}/v1"),
            graphql=self.graphql_url or f"{home}/graphql",
        )


def open(settings: Settings, clock: clocks.Clock) -> cloud.RunpodCloud:
    """The cloud. Raises `ValueError` with a sentence when there is no key or a URL holds too much; makes no call."""
    for name, url in (("URL", settings.url), ("V1_URL", settings.v1_url), ("GRAPHQL_URL", settings.graphql_url)):
        parts = urllib.parse.urlsplit(url)
        if parts.query or parts.fragment or "@" in parts.netloc:
            # Not in the field's own check: that would have the value shown, and it may hold a password or a key.
            raise ValueError(f"RUNPOD_{name} holds a user, a query or a fragment: it has to be https://HOST alone")
    key = settings.api_key.get_secret_value()
    if not key:
        raise ValueError("RUNPOD_API_KEY is not set (nor RUNPOD_KEY): put the key of your RunPod account there")
    return cloud.RunpodCloud(
        api.Api(
            settings.bases(),
            key,
            clock,
            limited=settings.rate_limit == "on",
            timeout_s=settings.timeout_s,
            create_timeout_s=settings.create_timeout_s,
            patience_s=settings.patience_s,
            tries=settings.tries,
        ),
        clock,
        clouds=settings.clouds.split(","),
        visibility_window_s=settings.visibility_window_s,
    )
