"""Who we are to the API server: a fixed token, a token file that is rotated under us, or an exec plugin's answer.

Leaves to `config` where these come from. Invariant: a secret never stands in a message or a log line.
"""

import asyncio
import base64
import json
import os
import shutil
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from bareboat.kube import errors
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import memory_files

TOKEN_FILE_LIFE_S = 60.0
EXEC_TIMEOUT_S = 60.0
EXPIRY_MARGIN_S = 10.0


class Credentials(Protocol):
    """One identity. `by_certificate`: renewing may change the client certificate, so connections are made anew."""

    by_certificate: bool

    async def authorization(self) -> str | None:
        """The Authorization header of the next request; cheap while what is known is still valid."""
        ...

    async def renew(self) -> bool:
        """Called after a 401: forgets what was known. True when another try may go better."""
        ...


class Fixed:
    """A header that never changes, or none (an open server)."""

    by_certificate = False

    def __init__(self, header: str | None = None) -> None:
        self._header = header

    async def authorization(self) -> str | None:
        return self._header

    async def renew(self) -> bool:
        return False


class CertificateFiles:
    """A client certificate in files that somebody may rotate: loaded again after a 401. Sends no header."""

    by_certificate = True

    def __init__(self, load: Callable[[], None]) -> None:
        self._load = load

    async def authorization(self) -> str | None:
        return None

    async def renew(self) -> bool:
        await asyncio.to_thread(self._load)
        return True


def bearer(token: str) -> Fixed:
    return Fixed(f"Bearer {token}")


def basic(user: str, password: str) -> Fixed:
    return Fixed("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


class TokenFile:
    """A token in a file that somebody rotates (the kubelet does so): read again every minute and on 401."""

    by_certificate = False

    def __init__(self, path: Path, clock: clocks.Clock) -> None:
        self._path = path
        self._clock = clock
        self._header = ""
        self._read_at_s = float("-inf")

    async def authorization(self) -> str | None:
        if self._clock.monotonic_s() - self._read_at_s >= TOKEN_FILE_LIFE_S:
            await self._read()
        return self._header

    async def renew(self) -> bool:
        before = self._header
        await self._read()
        return self._header != before

    async def _read(self) -> None:
        try:
            text = await asyncio.to_thread(self._path.read_text)
        except (OSError, UnicodeDecodeError) as problem:
            if self._header:  # a rotation in progress must not cost us the token that still works
                return
            raise errors.ConfigError(f"token file {self._path} can't be read: {problem}") from problem
        if not text.strip() and not self._header:
            raise errors.ConfigError(f"token file {self._path} is empty")
        self._header = f"Bearer {text.strip()}" if text.strip() else self._header
        self._read_at_s = self._clock.monotonic_s()


@dataclass(frozen=True)
class ExecSpec:
    """The `exec` part of a kubeconfig user. `where` names file and user for messages."""

    where: str
    api_version: str
    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    install_hint: str = ""
    cluster: Mapping[str, Any] | None = None
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Exec:
    """Runs a credential plugin and keeps its answer until it expires or is refused; one run at a time.

    `install` takes a client certificate into use (for new connections).
    """

    def __init__(self, spec: ExecSpec, clock: clocks.Clock, install: Callable[[str, str], None]) -> None:
        self._spec = spec
        self._clock = clock
        self._install = install
        self._lock = asyncio.Lock()
        self._header: str | None = None
        self._valid_until_s = float("-inf")
        self.by_certificate = False

    async def authorization(self) -> str | None:
        if self._clock.now_s() >= self._valid_until_s:
            async with self._lock:
                if self._clock.now_s() >= self._valid_until_s:
                    await self._run()
        return self._header

    async def renew(self) -> bool:
        refused = self._header, self._valid_until_s
        async with self._lock:
            if refused == (self._header, self._valid_until_s):  # nobody else renewed it while we waited
                self._valid_until_s = float("-inf")
        return True

    async def _run(self) -> None:
        spec = self._spec
        program = self._program()
        info = {
            "apiVersion": spec.api_version,
            "kind": "ExecCredential",
            "spec": {"interactive": False} | ({"cluster": spec.cluster} if spec.cluster is not None else {}),
        }
        environment = {**spec.environment, **spec.env, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *spec.args,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as problem:
            raise errors.ConfigError(f"{spec.where}: {program} can't be started: {problem}") from problem
        try:
            async with asyncio.timeout(EXEC_TIMEOUT_S):
                out, err = await process.communicate()
        except TimeoutError as late:
            raise errors.ConfigError(f"{spec.where}: {program} gave no answer in {EXEC_TIMEOUT_S:.0f} s") from late
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            told = errors.clip(err.decode("utf-8", "replace").strip(), 300)
            raise errors.ConfigError(f"{spec.where}: {program} ended with code {process.returncode}: {told}")
        await self._take(out)

    def _program(self) -> str:
        spec = self._spec
        command = spec.command
        if "/" in command and not command.startswith("/") and spec.folder is not None:
            command = str(spec.folder / command)  # relative to the kubeconfig that names it, as kubectl reads it
        found = shutil.which(command, path=spec.env.get("PATH") or spec.environment.get("PATH"))
        if found is None:
            hint = f" {errors.clip(spec.install_hint.strip(), 300)}" if spec.install_hint else ""
            raise errors.ConfigError(f"{spec.where}: the credential plugin {spec.command!r} was not found.{hint}")
        return found

    async def _take(self, out: bytes) -> None:
        where = self._spec.where
        try:
            answer = json.loads(out)
            version, status = answer["apiVersion"], dict(answer["status"])
        except (ValueError, KeyError, TypeError) as problem:
            raise errors.ConfigError(f"{where}: the credential plugin's answer is no ExecCredential") from problem
        if version != self._spec.api_version:
            raise errors.ConfigError(
                f"{where}: the credential plugin answered with apiVersion {version!r}, "
                f"but the kubeconfig asks for {self._spec.api_version!r}"
            )
        token = status.get("token")
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        if not token and not (certificate and key):
            raise errors.ConfigError(f"{where}: the credential plugin gave neither a token nor a certificate with key")
        if certificate and key:
            await asyncio.to_thread(self._install, certificate, key)
            self.by_certificate = True
        self._header = f"Bearer {token}" if token else None
        self._valid_until_s = self._expiry_s(status.get("expirationTimestamp"))

    def _expiry_s(self, text: str | None) -> float:
        if text is None:
            return float("inf")
        try:
            return datetime.fromisoformat(text).timestamp() - EXPIRY_MARGIN_S
        except ValueError as problem:
            raise errors.ConfigError(
                f"{self._spec.where}: expirationTimestamp {text!r} is no RFC 3339 time"
            ) from problem


def load_client_certificate(context: ssl.SSLContext, certificate_pem: str, key_pem: str, where: str) -> None:
    """Takes a certificate into use for new connections. Writes to no disk where the system has files in memory."""
    try:
        with (
            memory_files.holding(certificate_pem.encode()) as certificate,
            memory_files.holding(key_pem.encode()) as key,
        ):
            context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, OSError) as problem:
        raise errors.ConfigError(f"{where}: client certificate and key can't be used: {problem}") from problem


def _no_password() -> str:
    return ""  # OpenSSL would ask on the terminal


def inherited_environment() -> dict[str, str]:
    return dict(os.environ)
