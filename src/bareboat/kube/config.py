"""Where the API server is and who we are to it: kubeconfig files as kubectl reads them, or the pod's service account.

Reads files once, before the event loop has anything else to do; what is rotated later is `credentials`' business.
"""

import base64
import binascii
import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from bareboat.kube import credentials, errors
from bareboat.plumbing import clock as clocks

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@dataclass
class Config:
    """One API server and one identity. `where` says for people which file and context this came from."""

    server: str
    ssl: ssl.SSLContext | None
    credentials: credentials.Credentials
    where: str
    namespace: str = "default"
    context: str = ""
    tls_server_name: str | None = None


def load(
    path: str | Path | None = None,
    context: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    clock: clocks.Clock | None = None,
    service_account: Path = SERVICE_ACCOUNT,
) -> Config:
    """`path` if given, else the files of KUBECONFIG, else ~/.kube/config, else the pod's service account.

    Raises ConfigError with a message for people. Blocks on small local files.
    """
    environ = os.environ if environ is None else environ
    clock = clocks.SystemClock() if clock is None else clock
    if path is not None:
        return _from_files([Path(path)], context, environ, clock, must_exist=True)
    listed = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if listed:
        return _from_files(listed, context, environ, clock, must_exist=True)
    home = Path(environ.get("HOME") or Path.home()) / ".kube" / "config"
    if home.is_file():
        return _from_files([home], context, environ, clock, must_exist=True)
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environ=environ, clock=clock, service_account=service_account)
    raise errors.ConfigError(
        f"no Kubernetes cluster is configured: KUBECONFIG is not set, {home} does not exist "
        "and this is not a pod with a service account. Point KUBECONFIG at a kubeconfig file"
    )


def in_cluster(*, environ: Mapping[str, str], clock: clocks.Clock, service_account: Path = SERVICE_ACCOUNT) -> Config:
    """The pod's own service account; its token file is read again as the kubelet rotates it."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise errors.ConfigError("KUBERNETES_SERVICE_HOST is not set: this process does not run in a pod")
    token_file, ca_file, namespace_file = (service_account / name for name in ("token", "ca.crt", "namespace"))
    if not token_file.is_file():
        raise errors.ConfigError(
            f"{token_file} does not exist: give the pod a serviceAccountName and leave automountServiceAccountToken on"
        )
    try:
        tls = ssl.create_default_context(cafile=str(ca_file))
    except (ssl.SSLError, OSError) as problem:
        raise errors.ConfigError(f"{ca_file} can't be used as certificate authority: {problem}") from problem
    namespace = namespace_file.read_text().strip() if namespace_file.is_file() else "default"
    return Config(
        server=f"https://{_bracketed(host)}:{port}",
        ssl=tls,
        credentials=credentials.TokenFile(token_file, clock),
        where=f"service account in {service_account}",
        namespace=namespace,
    )


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host


@dataclass(frozen=True)
class _Entry:
    """A named cluster, user or context, and the file that it came from (relative paths are relative to that)."""

    value: Mapping[str, Any]
    file: Path
    what: str

    def path(self, key: str) -> Path | None:
        text = self.value.get(key)
        return self.file.parent / str(text) if text else None

    def fail(self, problem: str) -> errors.ConfigError:
        return errors.ConfigError(f"{self.file}: {self.what}: {problem}")


class _Merged:
    """Several kubeconfig files as one: the first file to name a thing decides."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, _Entry]] = {"clusters": {}, "users": {}, "contexts": {}}
        self.current = ""

    def add(self, file: Path, document: Mapping[str, Any]) -> None:
        self.current = self.current or str(document.get("current-context") or "")
        for plural, known in self.entries.items():
            singular = plural[:-1]
            listed = document.get(plural) or []
            if not isinstance(listed, list):
                raise errors.ConfigError(f"{file}: {plural} has to be a list")
            for item in listed:
                if not isinstance(item, Mapping) or not isinstance(item.get(singular) or {}, Mapping):
                    raise errors.ConfigError(f"{file}: each of {plural} has to be a mapping with name and {singular}")
                name = str(item.get("name", ""))
                known.setdefault(name, _Entry(item.get(singular) or {}, file, f"{singular} {name!r}"))

    def find(self, plural: str, name: str, asked_by: str) -> _Entry:
        known = self.entries[plural]
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise errors.ConfigError(f"{asked_by} {plural[:-1]} {name!r}, which does not exist; there are: {names}")
        return known[name]


def _from_files(
    files: list[Path], context: str | None, environ: Mapping[str, str], clock: clocks.Clock, *, must_exist: bool
) -> Config:
    merged = _Merged()
    for file in files:
        if file.exists() or len(files) == 1:
            merged.add(file, _read(file))
    shown = os.pathsep.join(map(str, files))
    if must_exist and not any(file.exists() for file in files):
        raise errors.ConfigError(f"none of the kubeconfig files exists: {shown}")
    name = context or merged.current
    if not name:
        names = ", ".join(sorted(merged.entries["contexts"])) or "none"
        raise errors.ConfigError(f"{shown}: no current-context is set; choose one of the contexts: {names}")
    chosen = merged.find("contexts", name, f"{shown}: asked for")
    cluster = merged.find("clusters", str(chosen.value.get("cluster", "")), f"{chosen.file}: {chosen.what} names the")
    user_name = str(chosen.value.get("user") or "")
    user = (
        merged.find("users", user_name, f"{chosen.file}: {chosen.what} names the")
        if user_name
        else _Entry({}, chosen.file, "no user")
    )
    server = _server(cluster)
    tls = _tls(cluster) if server.startswith("https:") else None
    return Config(
        server=server,
        ssl=tls,
        credentials=_credentials(user, cluster, tls, environ, clock),
        where=f"context {name!r} of {chosen.file}",
        namespace=str(chosen.value.get("namespace") or "default"),
        context=name,
        tls_server_name=str(cluster.value["tls-server-name"]) if cluster.value.get("tls-server-name") else None,
    )


def _read(file: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as problem:
        raise errors.ConfigError(f"kubeconfig {file} can't be read: {problem}") from problem
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f" near line {mark.line + 1}" if mark is not None else ""
        # The parser's own message quotes the file, and the file holds secrets.
        raise errors.ConfigError(f"kubeconfig {file} is not valid YAML{line}") from None
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise errors.ConfigError(f"kubeconfig {file} has to be a mapping with clusters, users and contexts")
    return document


def _server(cluster: _Entry) -> str:
    server = str(cluster.value.get("server") or "").rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise cluster.fail(f"server is {server!r}; it has to look like https://host:6443")
    if cluster.value.get("proxy-url"):
        raise cluster.fail("proxy-url is not supported; reach the API server directly or through a tunnel")
    return server


def _tls(cluster: _Entry) -> ssl.SSLContext:
    data, file = cluster.value.get("certificate-authority-data"), cluster.path("certificate-authority")
    try:
        if data:
            context = ssl.create_default_context(cadata=_decoded(cluster, "certificate-authority-data"))
        else:
            context = ssl.create_default_context(cafile=str(file) if file is not None else None)
    except (ssl.SSLError, OSError) as problem:
        source = "certificate-authority-data" if data else f"certificate-authority {file}"
        raise cluster.fail(f"{source} can't be used: {problem}") from problem
    # Cluster authorities made before 2021 often lack what strict checking asks for, and kubectl takes them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cluster.value.get("insecure-skip-tls-verify"):
        if data or file:
            raise cluster.fail("insecure-skip-tls-verify and a certificate-authority exclude each other")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _decoded(entry: _Entry, key: str) -> str:
    try:
        return base64.b64decode(str(entry.value[key]), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as problem:
        raise entry.fail(f"{key} is not base64 of a PEM text") from problem


def _credentials(
    user: _Entry,
    cluster: _Entry,
    tls: ssl.SSLContext | None,
    environ: Mapping[str, str],
    clock: clocks.Clock,
) -> credentials.Credentials:
    value = user.value
    _refuse_what_is_not_supported(user)
    by_certificate = _certificate(user, tls)
    if value.get("tokenFile"):
        path = user.path("tokenFile")
        assert path is not None
        return credentials.TokenFile(path, clock)
    if value.get("token"):
        return credentials.bearer(str(value["token"]))
    if value.get("username"):
        return credentials.basic(str(value["username"]), str(value.get("password") or ""))
    if value.get("exec"):
        return _exec(user, cluster, tls, environ, clock)
    return by_certificate or credentials.Fixed()


def _refuse_what_is_not_supported(user: _Entry) -> None:
    if user.value.get("auth-provider"):
        raise user.fail("auth-provider was removed from Kubernetes in 1.26; use an exec credential plugin instead")
    for key in ("as", "as-uid", "as-groups", "as-user-extra"):
        if user.value.get(key):
            raise user.fail(f"impersonation ({key}) is not supported; use a user that has the rights itself")


def _certificate(user: _Entry, tls: ssl.SSLContext | None) -> credentials.Credentials | None:
    value = user.value
    if not any(value.get(f"client-{part}{kind}") for part in ("certificate", "key") for kind in ("", "-data")):
        return None
    if tls is None:
        raise user.fail("a client certificate needs a server with https")

    def pem(part: str) -> str:
        if value.get(f"client-{part}-data"):
            return _decoded(user, f"client-{part}-data")
        path = user.path(f"client-{part}")
        if path is None:
            raise user.fail(f"client-{part} (or client-{part}-data) is missing; certificate and key go together")
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as problem:
            raise user.fail(f"client-{part} {path} can't be read: {problem}") from problem

    def take() -> None:
        credentials.load_client_certificate(tls, pem("certificate"), pem("key"), f"{user.file}: {user.what}")

    take()
    in_files = value.get("client-certificate") and not value.get("client-certificate-data")
    return credentials.CertificateFiles(take) if in_files else credentials.Fixed()


def _exec(
    user: _Entry, cluster: _Entry, tls: ssl.SSLContext | None, environ: Mapping[str, str], clock: clocks.Clock
) -> credentials.Credentials:
    wanted = user.value["exec"]
    if not isinstance(wanted, Mapping) or not wanted.get("command"):
        raise user.fail("exec has to name a command")
    version = str(wanted.get("apiVersion") or "")
    if version not in EXEC_VERSIONS:
        raise user.fail(f"exec.apiVersion is {version!r}; allowed are {' and '.join(EXEC_VERSIONS)}")
    if wanted.get("interactiveMode") == "Always":
        raise user.fail("exec.interactiveMode is Always, but nobody sits at a terminal here; use another user")
    where = f"{user.file}: {user.what}"

    def install(certificate: str, key: str) -> None:
        if tls is None:
            raise user.fail("a client certificate needs a server with https")
        credentials.load_client_certificate(tls, certificate, key, where)

    spec = credentials.ExecSpec(
        where=where,
        api_version=version,
        command=str(wanted["command"]),
        args=[str(argument) for argument in wanted.get("args") or []],
        env={str(pair["name"]): str(pair["value"]) for pair in wanted.get("env") or []},
        install_hint=str(wanted.get("installHint") or ""),
        cluster=_cluster_info(cluster) if wanted.get("provideClusterInfo") else None,
        folder=user.file.parent,
        environment=dict(environ),
    )
    return credentials.Exec(spec, clock, install)


def _cluster_info(cluster: _Entry) -> dict[str, Any]:
    value = cluster.value
    info: dict[str, Any] = {"server": value.get("server")}
    for key in ("tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data"):
        if value.get(key):
            info[key] = value[key]
    file = cluster.path("certificate-authority")
    if file is not None and "certificate-authority-data" not in info:
        info["certificate-authority-data"] = base64.b64encode(file.read_bytes()).decode()
    for extension in value.get("extensions") or []:
        if extension.get("name") == "client.authentication.k8s.io/exec":
            info["config"] = extension.get("extension")
    return info
