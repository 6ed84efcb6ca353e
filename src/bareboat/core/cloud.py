"""THE seam between Bareboat and a rental cloud. These docstrings are the contract; tests/contract holds drivers to it.

A driver speaks and translates. It holds no policy (whom to rent from, when to give up), no metrics, no words of
Kubernetes. Errors are those of `core.errors`, named by what the caller does next; a driver raises no others.
`CloudDown` and `Throttled` can come from every method.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from bareboat.core import instances as instances_
from bareboat.core import labels, launches, needs, offers


class Cloud(Protocol):
    """One account on one cloud."""

    name: str
    """Short, lower case, stable: `vast`. Part of offer and instance identities and of metrics."""

    visibility_window_s: float
    """How long after a rent call an instance may still be missing from every read."""

    async def search(self, wanted: needs.Needs) -> Sequence[offers.Offer]:
        """Offers that might do, in no promised order, one call where the cloud can.

        The driver may narrow by `wanted` to save bytes; the caller checks each offer again, since clouds ignore filters
        at times. An empty answer means none, never "could not ask".
        """
        ...

    async def rent(self, offer: offers.Offer, launch: launches.Launch, mark: labels.Mark) -> instances_.Instance:
        """Buys. One call, never repeated by the driver. The instance carries `mark` from the first moment.

        Raises `OfferGone`, `NoCapacity`, `LaunchRefused`, `CredentialsRefused`, `CreditExhausted` or `Throttled` only
        when nothing was bought for certain, and here `CloudDown` as well: when the request provably never left.
        `OutcomeUnknown` in every other failure. A cancelled call is of unknown outcome too.
        """
        ...

    async def instances(self) -> instances_.Listing:
        """All instances of the account, foreign ones included: complete, or it raises. One call for each page."""
        ...

    async def instance(self, instance_id: str) -> instances_.Instance | None:
        """One instance by a fresh read; None when the cloud says that there is no such instance (any more, or yet)."""
        ...

    async def marked(self, mark: labels.Mark) -> Sequence[instances_.Instance]:
        """Instances that carry exactly this mark, by a fresh read. One call where the cloud can filter. Inside the
        visibility window an empty answer proves nothing."""
        ...

    async def destroy(self, instance_id: str) -> None:
        """Asks for the end. Idempotent: an instance already gone is no error. A return proves nothing: only a later
        `instance()` of None or a complete listing without it does."""
        ...

    async def close(self) -> None:
        """Releases connections. Rents nothing, ends nothing."""
        ...


@runtime_checkable
class HasLogs(Protocol):
    """The cloud keeps the workload's output."""

    async def logs(self, instance_id: str, tail: int | None = None) -> str:
        """The newest `tail` lines (None: all that the cloud keeps), stdout and stderr mixed, without time stamps.

        Raises `InstanceGone` when there is no such instance, `CloudDown` when the text could not be had in time.
        """
        ...


@runtime_checkable
class HasCensus(Protocol):
    """The cloud can tell in one call (or few) what is not running, however many run."""

    async def census(self) -> instances_.Census:
        """Complete, or it raises."""
        ...


@runtime_checkable
class HasBilling(Protocol):
    """The cloud tells what is left to spend."""

    async def credit_usd(self) -> float:
        """What the account can still spend, in US dollars."""
        ...


@runtime_checkable
class HasTemplates(Protocol):
    """The cloud keeps launch templates."""

    async def templates(self, name: str) -> Sequence[tuple[str, str]]:
        """(id, content hash) of each template of exactly this name that the account owns or sees, newest first."""
        ...


@runtime_checkable
class RentsFromTemplates(Protocol):
    """The cloud keeps launch templates, searches by queries of its own, and labels as the caller likes: what a front
    door with a label and a query language of its own needs. Errors are those of the seam's methods of like names."""

    async def templates_named(self, name: str) -> Sequence[launches.Template]:
        """Each template of exactly this name that the account owns or sees, newest first. One or two calls."""
        ...

    async def matching(self, query: Mapping[str, Any]) -> Sequence[offers.Offer]:
        """Offers for a query in the cloud's own words, in the cloud's order. One call."""
        ...

    async def rent_labelled(self, offer: offers.Offer, launch: launches.Launch, label: str) -> instances_.Instance:
        """As `rent`, with a label of the caller's form."""
        ...

    async def labelled(self, label: str) -> Sequence[instances_.Instance]:
        """As `marked`, for a label of the caller's form."""
        ...
