"""Whom the kubelet API believes: the cluster's CA for client certificates, from a file or from the cluster itself."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from bareboat.kube import errors, objects, resources
from bareboat.kubelet import tls
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

NAMESPACE = "kube-system"
CONFIG_MAP = "extension-apiserver-authentication"
KEY = "client-ca-file"
AGAIN_S = 300.0
AGAIN_SOON_S = 10.0


class ConfigMap(objects.Partial, frozen=True):
    """Its text data."""

    data: dict[str, str] | None = None


class Api(Protocol):
    """What is needed of `kube.client.Client`."""

    async def get(self, path: str, *, type: type[ConfigMap]) -> ConfigMap: ...


async def of_cluster(api: Api) -> str | None:
    """The PEM bundle that the API server publishes for its extensions; None when it publishes none. One call.

    Needs the Role `extension-apiserver-authentication-reader` in kube-system. Raises a `kube.errors.KubeError`.
    """
    config_map = await api.get(resources.CONFIG_MAPS.path(NAMESPACE, CONFIG_MAP), type=ConfigMap)
    return (config_map.data or {}).get(KEY)


async def keep(trust: Callable[[str | None], None], api: Api, clock: clocks.Clock, *, file: Path | None = None) -> None:
    """Never returns: reads the bundle (`file` if given, else the cluster's) again and again, and hands each new one to
    `trust` (`tls.Tls.trust`). What can't be read changes nothing; until a first one is there, only bearer tokens work.
    """
    known: str | None = None
    pause = backoff.Backoff(AGAIN_SOON_S, AGAIN_S)
    while True:
        wait_s = AGAIN_S if file is None else AGAIN_SOON_S
        try:
            bundle = await of_cluster(api) if file is None else await asyncio.to_thread(file.read_text)
            if bundle is not None and bundle != known:
                trust(bundle)
                known = bundle
                log.info("kubelet.client_ca_loaded", source=str(file or f"{NAMESPACE}/{CONFIG_MAP}"))
        except (errors.KubeError, OSError, UnicodeDecodeError, tls.BadCertificate) as failure:
            log.warning("kubelet.client_ca_unreadable", why=str(failure))
            wait_s = pause.next_s()
        else:
            pause.reset()
        await clock.sleep(wait_s)
