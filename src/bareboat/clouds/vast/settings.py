"""What can be set about Vast, from the environment; and the cloud that comes of it."""

import re
import urllib.parse
from typing import Literal

import pydantic
import pydantic_settings

from bareboat.clouds.vast import api, cloud
from bareboat.plumbing import clock as clocks


class Settings(pydantic_settings.BaseSettings):
    """Each is an environment variable `VAST_…`."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="VAST_", extra="ignore", hide_input_in_errors=True)

    api_key: pydantic.SecretStr = pydantic.Field(
        default=pydantic.SecretStr(""), description="The account's key, from the page Keys of Vast's console."
    )
    url: str = pydantic.Field(
        default="https://console.vast.ai", description="Where the API is; a simulator's address works as well."
    )
    rate_limit: Literal["on", "off"] = pydantic.Field(
        default="on",
        description="Whether calls are spaced out as Vast demands; `off` is for simulators without limits.",
    )
    timeout_s: float = pydantic.Field(default=30.0, gt=0, le=600, description="Longest wait for one answer.")
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
        description="How long a new instance may be missing from lists; shorter only for simulators on a fast clock.",
    )
    search_pages: int = pydantic.Field(default=2, ge=1, le=20, description="Pages of 64 offers read at most.")

    @pydantic.field_validator("api_key")
    @classmethod
    def _key_is_a_word(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        key = value.get_secret_value().strip()
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise ValueError("it holds blanks, line breaks or letters beyond ASCII; it has to be one word")
        return pydantic.SecretStr(key)

    @pydantic.field_validator("url")
    @classmethod
    def _url_is_one(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        parts = urllib.parse.urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname or re.search(r"\s", value):
            raise ValueError("it has to be https://HOST (or http://HOST:PORT for a simulator)")
        return value


def open(settings: Settings, clock: clocks.Clock) -> cloud.VastCloud:
    """The cloud. Raises `ValueError` with a sentence when there is no key or the URL holds too much; makes no call."""
    parts = urllib.parse.urlsplit(settings.url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        # Not in the field's own check: that would have the value shown, and it may hold a password or a key.
        raise ValueError("VAST_URL holds a user, a query or a fragment: it has to be https://HOST and nothing else")
    key = settings.api_key.get_secret_value()
    if not key:
        raise ValueError("VAST_API_KEY is not set: put the key of your Vast.ai account there")
    return cloud.VastCloud(
        api.Api(
            settings.url,
            key,
            clock,
            limited=settings.rate_limit == "on",
            timeout_s=settings.timeout_s,
            patience_s=settings.patience_s,
            tries=settings.tries,
        ),
        clock,
        search_pages=settings.search_pages,
        visibility_window_s=settings.visibility_window_s,
    )
