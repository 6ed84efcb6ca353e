"""What an image is: its digest and its config, asked of its registry. Owns which documents to read and what is kept.

Kept apart by login: what one pod's pull secret may see, another pod without it may not. One caller asks for an image at
a time, the others wait and find it fresh.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from bareboat.core import launches
from bareboat.plumbing import clock as clocks
from bareboat.registry import configs, errors, fetching, manifests, references

TOTAL_S = 30.0
TAG_S = 60.0
"""How long what a tag stands for is believed. A pod that starts within it gets the same digest as the one before."""
STALE_S = 3600.0
"""How long after that it is believed while the registry is out of order or has had too many requests."""
REFUSED_S = 10.0
MOST_KEPT = 1024
BLOB_TYPES = "application/vnd.oci.image.config.v1+json, application/vnd.docker.container.image.v1+json, */*"

_Key = tuple[str, str, tuple[launches.RegistryLogin, ...]]


@dataclass(slots=True)
class _Slot:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    until_s: float = float("-inf")
    found: configs.Image | errors.RegistryError | None = None
    good: configs.Image | None = None
    good_s: float = float("-inf")
    """When the registry last vouched for `good`."""


class Registries:
    """Reads from all registries. `mirrors` maps a registry (or `*`) to a base URL that answers in its stead and is told
    with `ns` which one is meant; it gets the logins, too."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        clock: clocks.Clock,
        mirrors: Mapping[str, str] | None = None,
        total_s: float = TOTAL_S,
        request_s: float = fetching.REQUEST_S,
    ) -> None:
        self._fetcher = fetching.Fetcher(session, clock=clock, mirrors=mirrors or {}, request_s=request_s)
        self._clock = clock
        self._total_s = total_s
        self._slots: OrderedDict[_Key, _Slot] = OrderedDict()

    async def image(
        self, name: str, *, logins: Sequence[launches.RegistryLogin] = (), architecture: str = "amd64"
    ) -> configs.Image:
        """The image that `name` stands for now, in its variant for linux on `architecture` (amd64, arm64).

        `logins` are tried in order, none of them: anonymously. Costs no request while it is fresh (a minute for a tag,
        for ever within bounds for a digest), three to six otherwise, one for a tag that has not moved. Raises
        `errors.RegistryError`.
        """
        try:
            reference = references.parse(name)
        except references.Malformed as malformed:
            raise errors.BadReference(name[:200], str(malformed)) from None
        slot = self._slot((str(reference), architecture, tuple(logins)))
        # A lock and not a shared task: whoever is cancelled while reading leaves the read to the next in line.
        async with slot.lock:
            if self._clock.monotonic_s() >= slot.until_s:
                await self._renew(slot, reference, tuple(logins), architecture)
            if isinstance(slot.found, configs.Image):
                return slot.found
            assert slot.found is not None
            raise slot.found.with_traceback(None)

    async def _renew(
        self,
        slot: _Slot,
        reference: references.Reference,
        logins: tuple[launches.RegistryLogin, ...],
        architecture: str,
    ) -> None:
        found, life_s = await self._read(reference, logins, architecture, slot.good)
        now_s = self._clock.monotonic_s()
        if isinstance(found, configs.Image):
            slot.good, slot.good_s = found, now_s
        elif isinstance(found, errors.RegistryDown | errors.Throttled) and now_s < slot.good_s + TAG_S + STALE_S:
            assert slot.good is not None
            found, life_s = slot.good, REFUSED_S
        slot.found, slot.until_s = found, now_s + life_s

    def _slot(self, key: _Key) -> _Slot:
        slot = self._slots.setdefault(key, _Slot())
        self._slots.move_to_end(key)
        while len(self._slots) > MOST_KEPT:
            self._slots.popitem(last=False)
        return slot

    async def _read(
        self,
        reference: references.Reference,
        logins: tuple[launches.RegistryLogin, ...],
        architecture: str,
        known: configs.Image | None,
    ) -> tuple[configs.Image | errors.RegistryError, float]:
        """What was found or what is wrong, and how long it is to be believed."""
        try:
            async with asyncio.timeout(self._total_s):
                image = await self._with_logins(reference, logins, architecture, known)
        except TimeoutError:
            why = f"registry {reference.registry} did not tell of it within {self._total_s:g} s"
            return errors.RegistryDown(str(reference), why), 0.0
        except errors.Throttled as throttled:
            return throttled, min(throttled.after_s, TAG_S)
        except errors.RegistryDown as down:
            return down, 0.0
        except errors.RegistryError as refused:
            return refused, REFUSED_S
        return image, float("inf") if reference.digest else TAG_S

    async def _with_logins(
        self,
        reference: references.Reference,
        logins: tuple[launches.RegistryLogin, ...],
        architecture: str,
        known: configs.Image | None,
    ) -> configs.Image:
        *earlier, last = logins or (None,)
        for login in earlier:
            try:
                return await self._one(reference, login, architecture, known)
            except (errors.Unauthorized, errors.ImageNotFound):
                continue
        return await self._one(reference, last, architecture, known)

    async def _one(
        self,
        reference: references.Reference,
        login: fetching.Login,
        architecture: str,
        known: configs.Image | None,
    ) -> configs.Image:
        place = self._fetcher.place(reference)
        if known is not None:
            stands_for = await self._fetcher.digest(place, reference.wanted, manifests.ACCEPT, login)
            if stands_for == known.digest:
                return known
        try:
            return await self._look(place, login, architecture)
        except manifests.NoVariant as none:
            raise errors.WrongPlatform(str(reference), str(none)) from None
        except (manifests.Unreadable, configs.Unreadable) as unreadable:
            raise errors.RegistryDown(str(reference), str(unreadable)) from None

    async def _look(self, place: fetching.Place, login: fetching.Login, architecture: str) -> configs.Image:
        reference = place.reference
        body = await self._document(place, "manifests", reference.wanted, manifests.ACCEPT, login)
        digest = reference.digest or manifests.digest_of(body)
        found = manifests.decode(body)
        if found.manifests is not None:
            variant = manifests.choose(found, architecture).digest
            found = manifests.decode(await self._document(place, "manifests", variant, manifests.ACCEPT, login))
        if found.config is None:
            raise manifests.Unreadable("its index leads to another index")
        config = configs.decode(await self._document(place, "blobs", found.config.digest, BLOB_TYPES, login))
        if config.architecture not in ("", architecture) or config.os not in ("", manifests.OS):
            why = f"it is for {config.os}/{config.architecture} only; wanted is {manifests.OS}/{architecture}"
            raise manifests.NoVariant(why)
        return configs.Image(reference.name, digest, config)

    async def _document(self, place: fetching.Place, kind: str, name: str, accept: str, login: fetching.Login) -> bytes:
        if ":" in name and not references.is_digest(name):
            raise manifests.Unreadable("it names a digest that is none")
        body = await self._fetcher.get(place, kind, name, accept, login)
        if ":" in name and not manifests.matches(body, name):
            raise manifests.Unreadable(f"what its registry sent for {name[:19]}… has another digest")
        return body
