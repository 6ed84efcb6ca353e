"""Kubeconfig files as people have them, and messages that say which file, which part and what to do."""

import asyncio
import base64
import json
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from bareboat.kube import config as configs
from bareboat.kube import credentials, errors
from bareboat.plumbing import clock as clocks

Json = dict[str, Any]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def a_kubeconfig(cluster: Json | None = None, user: Json | None = None, **more: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        **more,
    }


def write(path: Path, document: Json) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return path


def load(path: Path, **options: Any) -> configs.Config:
    return configs.load(path, environ={}, **options)


async def header(config: configs.Config) -> str | None:
    return await config.credentials.authorization()


async def test_server_namespace_and_token_of_the_current_context(tmp_path: Path) -> None:
    file = write(tmp_path / "config", a_kubeconfig(user={"token": "abc"}))
    config = load(file)
    assert (config.server, config.namespace, config.context) == ("https://10.0.0.1:6443", "team", "main")
    assert config.where == f"context 'main' of {file}"
    assert await header(config) == "Bearer abc"


async def test_files_of_kubeconfig_are_merged_and_the_first_to_name_a_thing_decides(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"users": [{"name": "u", "user": {"token": "first"}}]})
    two = write(tmp_path / "two", a_kubeconfig(user={"token": "second"}))
    listed = os.pathsep.join([str(one), str(tmp_path / "missing"), "", str(two)])
    config = configs.load(environ={"KUBECONFIG": listed})
    assert await header(config) == "Bearer first"
    assert config.server == "https://10.0.0.1:6443"


def test_a_context_can_be_chosen(tmp_path: Path) -> None:
    document = a_kubeconfig()
    document["contexts"].append({"name": "other", "context": {"cluster": "c"}})
    file = write(tmp_path / "config", document)
    assert load(file, context="other").namespace == "default"


def test_the_home_folders_file_is_used_when_nothing_is_set(tmp_path: Path) -> None:
    write(tmp_path / ".kube" / "config", a_kubeconfig())
    assert configs.load(environ={"HOME": str(tmp_path)}).context == "main"


def a_service_account(folder: Path, authority: trustme.CA) -> Path:
    folder.mkdir()
    (folder / "token").write_text("sa-token\n")
    (folder / "namespace").write_text("here\n")
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    return folder


@pytest.mark.parametrize(
    ("host", "server"), [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
async def test_in_a_pod_the_service_account_is_used(
    tmp_path: Path, authority: trustme.CA, host: str, server: str
) -> None:
    folder = a_service_account(tmp_path / "sa", authority)
    environ = {"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    config = configs.load(environ=environ, service_account=folder)
    assert (config.server, config.namespace) == (server, "here")
    assert await header(config) == "Bearer sa-token"
    assert config.ssl is not None and config.ssl.verify_mode == ssl.CERT_REQUIRED


def test_in_a_pod_without_token_the_message_says_what_to_set(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    with pytest.raises(errors.ConfigError, match="automountServiceAccountToken"):
        configs.load(environ=environ, service_account=tmp_path)


def test_nothing_at_all_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"KUBECONFIG is not set.*\.kube/config does not exist"):
        configs.load(environ={"HOME": str(tmp_path)})


def test_a_client_certificate_needs_no_disk_to_write_to(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    leaf = authority.issue_cert("me@example.org")
    certificate, key = leaf.cert_chain_pems[0].bytes().decode(), leaf.private_key_pem.bytes().decode()
    credentials.load_client_certificate(ssl.create_default_context(), certificate, key, "here")
    other = authority.issue_cert("you@example.org").private_key_pem.bytes().decode()
    with pytest.raises(errors.ConfigError, match="here: client certificate and key can't be used"):
        credentials.load_client_certificate(ssl.create_default_context(), certificate, other, "here")


def test_certificates_may_stand_inline_or_in_files_beside_the_kubeconfig(tmp_path: Path, authority: trustme.CA) -> None:
    leaf = authority.issue_cert("me@example.org")
    certificate, key = leaf.cert_chain_pems[0].bytes().decode(), leaf.private_key_pem.bytes().decode()
    ca = authority.cert_pem.bytes().decode()
    inline = write(
        tmp_path / "inline",
        a_kubeconfig(
            {"certificate-authority-data": b64(ca)},
            {"client-certificate-data": b64(certificate), "client-key-data": b64(key)},
        ),
    )
    for name, text in (("ca.pem", ca), ("c.pem", certificate), ("k.pem", key)):
        (tmp_path / name).write_text(text)
    files = write(
        tmp_path / "files",
        a_kubeconfig(
            {"certificate-authority": "ca.pem"}, {"client-certificate": "c.pem", "client-key": str(tmp_path / "k.pem")}
        ),
    )
    for file in (inline, files):
        tls = load(file).ssl
        assert tls is not None and tls.verify_mode == ssl.CERT_REQUIRED and len(tls.get_ca_certs()) == 1
    assert isinstance(load(files).credentials, credentials.CertificateFiles)


def test_verification_can_be_switched_off_and_the_name_changed(tmp_path: Path) -> None:
    cluster = {"insecure-skip-tls-verify": True, "tls-server-name": "kubernetes"}
    config = load(write(tmp_path / "config", a_kubeconfig(cluster)))
    assert config.ssl is not None and config.ssl.verify_mode == ssl.CERT_NONE
    assert config.tls_server_name == "kubernetes"


async def test_plain_http_and_basic_auth(tmp_path: Path) -> None:
    document = a_kubeconfig({"server": "http://127.0.0.1:8001/prefix/"}, {"username": "me", "password": "pw"})
    config = load(write(tmp_path / "config", document))
    assert (config.server, config.ssl) == ("http://127.0.0.1:8001/prefix", None)
    assert await header(config) == "Basic " + b64("me:pw")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "no current-context is set; choose one of the contexts: none"),
        (a_kubeconfig() | {"current-context": "x"}, "asked for context 'x', which does not exist; there are: main"),
        (
            a_kubeconfig(contexts=[{"name": "main", "context": {"cluster": "nope", "user": "u"}}]),
            "context 'main' names the cluster 'nope', which does not exist; there are: c",
        ),
        (
            a_kubeconfig(contexts=[{"name": "main", "context": {"cluster": "c", "user": "nope"}}]),
            "context 'main' names the user 'nope', which does not exist; there are: u",
        ),
        (a_kubeconfig({"server": "10.0.0.1"}), "cluster 'c': server is '10.0.0.1'; it has to look like https://"),
        (a_kubeconfig({"proxy-url": "http://p"}), "cluster 'c': proxy-url is not supported"),
        (a_kubeconfig({"certificate-authority": "nope.pem"}), "certificate-authority .*nope.pem can't be used"),
        (a_kubeconfig({"certificate-authority-data": "%%%"}), "certificate-authority-data is not base64"),
        (
            a_kubeconfig({"certificate-authority-data": "YQ==", "insecure-skip-tls-verify": True}),
            "certificate-authority-data can't be used",
        ),
        (a_kubeconfig(user={"client-certificate": "c.pem"}), "client-certificate .*c.pem can't be read"),
        (a_kubeconfig(user={"client-key-data": b64("x")}), r"client-certificate \(or client-certificate-data\) is mis"),
        (
            a_kubeconfig(user={"client-certificate-data": b64("x"), "client-key-data": b64("x")}),
            "user 'u': client certificate and key can't be used",
        ),
        (a_kubeconfig(user={"auth-provider": {"name": "gcp"}}), "auth-provider was removed from Kubernetes"),
        (a_kubeconfig(user={"as": "root"}), r"impersonation \(as\) is not supported"),
        (a_kubeconfig(user={"exec": {"args": ["x"]}}), "user 'u': exec has to name a command"),
        (
            a_kubeconfig(user={"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"}}),
            "exec.apiVersion is 'client.authentication.k8s.io/v1alpha1'; allowed are",
        ),
        (
            a_kubeconfig(
                user={
                    "exec": {
                        "command": "x",
                        "apiVersion": "client.authentication.k8s.io/v1",
                        "interactiveMode": "Always",
                    }
                }
            ),
            "nobody sits at a terminal",
        ),
        (a_kubeconfig(users="x"), "users has to be a list"),
        (a_kubeconfig(users=["x"]), "each of users has to be a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_part(tmp_path: Path, document: Json, says: str) -> None:
    file = write(tmp_path / "config", document)
    with pytest.raises(errors.ConfigError, match=says) as caught:
        load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["a: [secret-token", "- just\n- a list\n"])
def test_a_file_that_is_no_kubeconfig_is_named_but_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(errors.ConfigError) as caught:
        load(file)
    assert str(file) in str(caught.value) and "secret" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"nope can't be read"):
        load(tmp_path / "nope")
    listed = os.pathsep.join([str(tmp_path / "nope"), str(tmp_path / "neither")])
    with pytest.raises(errors.ConfigError, match="none of the kubeconfig files exists"):
        configs.load(environ={"KUBECONFIG": listed})


async def test_a_token_file_is_read_again_every_minute_and_survives_a_rotation(tmp_path: Path) -> None:
    clock = clocks.ManualClock()
    file = tmp_path / "token"
    file.write_text("one")
    config = load(write(tmp_path / "config", a_kubeconfig(user={"tokenFile": "token"})), clock=clock)
    assert await header(config) == "Bearer one"
    file.write_text("two")
    assert await header(config) == "Bearer one", "it is not read for each request"
    await clock.advance(61)
    assert await header(config) == "Bearer two"
    file.unlink()
    await clock.advance(61)
    assert await header(config) == "Bearer two", "a token that still works is kept"


async def test_a_token_file_that_never_was_there_is_named(tmp_path: Path) -> None:
    config = load(write(tmp_path / "config", a_kubeconfig(user={"tokenFile": "nope"})))
    with pytest.raises(errors.ConfigError, match="nope can't be read"):
        await header(config)


PLUGIN = """#!/bin/sh
echo run >> "$RUNS"
printf '%s' "$KUBERNETES_EXEC_INFO" > "$RUNS.info"
printf '%s' "$*" > "$RUNS.args"
cat "$ANSWER"
exit ${CODE:-0}
"""


class Plugin:
    """A credential plugin beside a kubeconfig, what it answers and how often it ran."""

    def __init__(self, folder: Path, version: str = "client.authentication.k8s.io/v1", **more: Any) -> None:
        self.folder = folder
        self.version = version
        self.clock = clocks.ManualClock()
        program = folder / "bin" / "plugin"
        program.parent.mkdir()
        program.write_text(PLUGIN)
        program.chmod(0o755)
        env = [{"name": "RUNS", "value": str(folder / "runs")}, {"name": "ANSWER", "value": str(folder / "answer")}]
        self.exec: Json = {"apiVersion": version, "command": "./bin/plugin", "args": ["get", "token"], "env": env}
        self.exec |= more

    def answers(self, **status: Any) -> None:
        text = json.dumps({"apiVersion": self.version, "kind": "ExecCredential", "status": status})
        (self.folder / "answer").write_text(text)

    def config(self, cluster: Json | None = None) -> configs.Config:
        file = write(self.folder / "config", a_kubeconfig(cluster, {"exec": self.exec}))
        return configs.load(file, environ={"PATH": os.environ["PATH"]}, clock=self.clock)

    @property
    def runs(self) -> int:
        file = self.folder / "runs"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.mark.parametrize("version", configs.EXEC_VERSIONS)
async def test_a_plugins_token_is_kept_until_it_expires(tmp_path: Path, version: str) -> None:
    plugin = Plugin(tmp_path, version)
    plugin.clock = clocks.ManualClock(start_s=1_800_000_000.0)  # 2027-01-15T08:00:00Z
    plugin.answers(token="one", expirationTimestamp="2027-01-15T09:00:00Z")
    config = plugin.config()
    assert [await header(config) for _ in range(3)] == ["Bearer one"] * 3
    assert plugin.runs == 1
    plugin.answers(token="two")
    await plugin.clock.advance(3595)
    assert await header(config) == "Bearer two", "it is renewed a little before it expires"
    await plugin.clock.advance(10**6)
    assert await header(config) == "Bearer two" and plugin.runs == 2, "without expiry it is good until refused"
    assert await config.credentials.renew()
    assert await header(config) == "Bearer two" and plugin.runs == 3


async def test_a_plugin_is_told_about_the_cluster_when_it_wants_to_know(tmp_path: Path, authority: trustme.CA) -> None:
    plugin = Plugin(tmp_path, provideClusterInfo=True)
    plugin.answers(token="t")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    config = plugin.config(
        {"certificate-authority": "ca.pem", "tls-server-name": "kubernetes", "extensions": [extension]}
    )
    await header(config)
    told = json.loads((tmp_path / "runs.info").read_text())
    assert told == {
        "apiVersion": plugin.version,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://10.0.0.1:6443",
                "tls-server-name": "kubernetes",
                "certificate-authority-data": base64.b64encode(authority.cert_pem.bytes()).decode(),
                "config": {"audience": "x"},
            },
        },
    }
    assert (tmp_path / "runs.args").read_text() == "get token"


async def test_a_plugin_may_answer_with_a_client_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    leaf = authority.issue_cert("me@example.org")
    plugin = Plugin(tmp_path)
    plugin.answers(
        clientCertificateData=leaf.cert_chain_pems[0].bytes().decode(),
        clientKeyData=leaf.private_key_pem.bytes().decode(),
    )
    config = plugin.config()
    assert await header(config) is None
    assert config.credentials.by_certificate
    plugin.answers(clientCertificateData="x", clientKeyData="y")
    await config.credentials.renew()
    with pytest.raises(errors.ConfigError, match="client certificate and key can't be used"):
        await header(config)


async def test_requests_at_the_same_time_run_the_plugin_once(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answers(token="t")
    config = plugin.config()
    assert await asyncio.gather(*(header(config) for _ in range(10))) == ["Bearer t"] * 10
    assert plugin.runs == 1


async def test_a_plugin_that_does_not_exist_says_how_to_install_it(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, installHint="get it from your platform team")
    plugin.exec["command"] = "no-such-plugin"
    with pytest.raises(errors.ConfigError, match=r"'no-such-plugin' was not found\. get it from"):
        await header(plugin.config())


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        ("oops", "0", "is no ExecCredential"),
        ('{"apiVersion": "client.authentication.k8s.io/v1", "status": null}', "0", "is no ExecCredential"),
        ("please log in", "3", "ended with code 3"),
        ('{"apiVersion": "other/v1", "status": {"token": "t"}}', "0", "answered with apiVersion 'other/v1'"),
        ('{"apiVersion": "client.authentication.k8s.io/v1", "status": {}}', "0", "neither a token nor a certificate"),
        (
            '{"apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "s", "expirationTimestamp": "x"}}',
            "0",
            "expirationTimestamp 'x' is no RFC 3339 time",
        ),
    ],
)
async def test_a_plugins_bad_answer_is_said_with_file_and_user(
    tmp_path: Path, answer: str, code: str, says: str
) -> None:
    plugin = Plugin(tmp_path)
    plugin.exec["env"].append({"name": "CODE", "value": code})
    (tmp_path / "answer").write_text(answer)
    with pytest.raises(errors.ConfigError, match=says) as caught:
        await header(plugin.config())
    assert f"{tmp_path / 'config'}: user 'u'" in str(caught.value)
