"""What the environment says, word for word as documented: defaults, every variable, and all that is wrong at once."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bareboat import settings
from bareboat.core import launches
from bareboat.proxy import about, program

REQUIRED = {
    "POD_NAME": "vast-pod-0",
    "VAST_API_KEY": "k3y",
    "VAST_TEMPLATE_NAME": "my template",
    "VAST_TEMPLATE_IMAGE": "me/web:1",
    "DOCKER_LOGIN": "-u robot -p opensesame registry.example.com",
    "VAST_SEARCH_QUERY": "gpu_name=RTX_4090 num_gpus=1",
}
DOCUMENTED = {
    "NGINX_CONFIG_PATH": "/etc/nginx/http.d/default.conf",
    "NGINX_LISTEN_PORT": "3000",
    "NGINX_MAX_BODY_SIZE": "10M",
    "BLACKLIST_ENABLED": "false",
    "BLACKLIST_REDIS_URL": "redis://redis:6379/10",
    "BLACKLIST_BAN_AFTER_SECONDS": "1200",
    "BLACKLIST_BAN_TTL_SECONDS": "604800",
    "BLACKLIST_RESTART_TTL_SECONDS": "3600",
    "BLACKLIST_RESTART_THRESHOLD": "5",
    "DEBUG": "false",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *DOCUMENTED,
        "TEMPLATE_NAME",
        "TEMPLATE_IMAGE",
        "BLACKLIST_REDIS",
        "BAREBOAT_ENV_FILE",
        "BAREBOAT_CLUSTER_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def plan() -> program.Plan:
    read: settings.Proxy = settings.read(settings.Proxy)
    return read.plan()


def wrong() -> str:
    with pytest.raises(settings.Bad) as bad:
        settings.read(settings.Proxy)
    return str(bad.value)


def test_the_defaults_are_the_documented_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = settings.read(settings.Proxy)
    for name, value in DOCUMENTED.items():
        monkeypatch.setenv(name, value)
    assert settings.read(settings.Proxy) == unset
    assert plan().banning is None


def test_every_required_variable_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    told = plan().about
    assert (told.pod_name, told.label) == ("vast-pod-0", "k8s_pod=vast-pod-0")
    assert (told.template_name, told.image) == ("my template", "me/web:1")
    assert told.login == launches.RegistryLogin("registry.example.com", "robot", "opensesame")
    assert told.query["gpu_name"] == {"eq": "RTX 4090"} and told.query["rentable"] == {"eq": True}
    assert settings.read(settings.Proxy).api_key.get_secret_value() == "k3y"


@pytest.mark.parametrize(
    ("name", "value", "path", "arrives"),
    [
        ("NGINX_CONFIG_PATH", "/x/y.conf", "site.config_path", Path("/x/y.conf")),
        ("NGINX_LISTEN_PORT", "3001", "site.listen_port", 3001),
        ("NGINX_MAX_BODY_SIZE", "1G", "site.max_body_size", "1G"),
        ("BLACKLIST_REDIS_URL", "redis://else:1/2", "banning.redis_url", "redis://else:1/2"),
        ("BLACKLIST_REDIS", "redis://else:1/3", "banning.redis_url", "redis://else:1/3"),
        ("BLACKLIST_BAN_AFTER_SECONDS", "7", "banning.ban_after_s", 7.0),
        ("BLACKLIST_BAN_TTL_SECONDS", "8", "banning.ban_ttl_s", 8.0),
        ("BLACKLIST_RESTART_TTL_SECONDS", "9", "banning.restart_ttl_s", 9.0),
        ("BLACKLIST_RESTART_THRESHOLD", "2", "banning.restart_threshold", 2),
        ("DEBUG", "true", "site.debug", True),
        ("BAREBOAT_CLUSTER_ID", "east", "about.cluster_id", "east"),
        ("BAREBOAT_POD_USD_PER_HOUR_CAP", "0.5", "about.cap_usd_per_hour", 0.5),
        ("BAREBOAT_PROXY_UPSTREAM_PORT", "81", "about.upstream_port", 81),
        ("BAREBOAT_PROXY_CHECK_PATH", "/health", "check_path", "/health"),
        ("BAREBOAT_PROXY_HEALTH_PORT", "82", "health_port", 82),
        ("BAREBOAT_PROXY_DRAIN_S", "3", "site.drain_s", 3.0),
        ("BAREBOAT_PROXY_POLL_S", "4", "pace.poll_s", 4.0),
    ],
)
def test_every_other_variable_arrives(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, path: str, arrives: Any
) -> None:
    monkeypatch.setenv("BLACKLIST_ENABLED", "true")

    def found() -> Any:
        place: Any = plan()
        for part in path.split("."):
            place = getattr(place, part)
        return place

    before = found()
    monkeypatch.setenv(name, value)
    assert found() == arrives != before


def test_the_names_of_the_documents_text_are_read_too_below_those_of_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPLATE_NAME", "other")
    monkeypatch.setenv("TEMPLATE_IMAGE", "other/web:2")
    assert (plan().about.template_name, plan().about.image) == ("my template", "me/web:1")
    monkeypatch.delenv("VAST_TEMPLATE_NAME")
    monkeypatch.delenv("VAST_TEMPLATE_IMAGE")
    assert (plan().about.template_name, plan().about.image) == ("other", "other/web:2")


def test_the_query_may_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_SEARCH_QUERY", '{"gpu_name": {"in": ["RTX_4090"]}, "order": [["dph_total", "asc"]]}')
    assert plan().about.query == {"gpu_name": {"in": ["RTX_4090"]}, "order": [["dph_total", "asc"]]}


def test_a_field_that_vast_does_not_know_is_a_warning_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_SEARCH_QUERY", "gpu_nane=RTX_4090")
    [warning] = settings.read(settings.Proxy).parsed_query().warnings
    assert "gpu_name" in warning


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in REQUIRED:
        monkeypatch.delenv(name)
    lines = wrong().splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == list(REQUIRED)
    assert all("is not set: " in line for line in lines)


def test_all_that_is_malformed_is_named_at_once_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {
        "POD_NAME": "two words",
        "VAST_API_KEY": "",
        "VAST_TEMPLATE_IMAGE": "-u x",
        "DOCKER_LOGIN": "-u robot opensesame",
        "VAST_SEARCH_QUERY": "num_gpus=>3",
        "NGINX_LISTEN_PORT": "http",
        "NGINX_MAX_BODY_SIZE": "10 MB",
        "BLACKLIST_ENABLED": "perhaps",
        "BLACKLIST_REDIS_URL": "http://:opensesame@redis",
        "BLACKLIST_BAN_AFTER_SECONDS": "0",
        "BLACKLIST_BAN_TTL_SECONDS": "a week",
        "BLACKLIST_RESTART_TTL_SECONDS": "-1",
        "BLACKLIST_RESTART_THRESHOLD": "0",
        "DEBUG": "very",
    }
    for name, value in bad.items():
        monkeypatch.setenv(name, value)
    told = wrong()
    assert all(name in told for name in bad), told
    assert "opensesame" not in told and "has no -p <password>" in told and "num_gpus=>3" in told


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("-u me -p secret ghcr.io", ("ghcr.io", "me", "secret")),
        ("-p secret -u me ghcr.io", ("ghcr.io", "me", "secret")),
        ("docker login -u me -p secret ghcr.io", ("ghcr.io", "me", "secret")),
        ("--username me --password=se-cr=et ghcr.io:5000", ("ghcr.io:5000", "me", "se-cr=et")),
        ("-u me -p 'se\"cret'", ("docker.io", "me", 'se"cret')),
    ],
)
def test_docker_login(text: str, login: tuple[str, str, str]) -> None:
    assert dataclasses.astuple(about.docker_login(text)) == login


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no -u <user>"),
        ("-u me ghcr.io", "has no -p <password>"),
        ("-p s3cret ghcr.io", "has no -u <user>"),
        ("-u me -p", "not understood"),
        ("-u me -p s3cret a b", "not understood"),
        ("-u me -p s3cret --token x ghcr.io", "not understood"),
        ("-u me -p 's3cret ghcr.io", "quotes don't close"),
        ("-u me -p 's3 cret' ghcr.io", "holds blanks"),
    ],
)
def test_a_docker_login_that_makes_no_sense_is_told_without_showing_it(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as wrong:
        about.docker_login(text)
    assert "s3" not in str(wrong.value)
