"""What can go wrong with a cloud, named by what the caller does next.

CloudError
├── OfferGone            take the next offer
├── NoCapacity           nothing to rent now: stay Pending, back off
├── InstanceGone         the instance does not exist any more
├── LaunchRefused        the workload's own fault: say so, do not retry
├── CredentialsRefused   the key is wrong, expired or lacks a right: a condition of the node, for an administrator
├── CreditExhausted      the account can't pay: a condition of the node, for an administrator
├── Throttled            wait `after_s`, then ask again; nothing was done
├── CloudDown            no usable answer to a read or an idempotent write: ask again later; nothing can be concluded
└── OutcomeUnknown       we may have bought: look it up by its mark before anything else
"""


class CloudError(Exception):
    """Base of all errors that a cloud driver raises. `cloud` is the driver's name, `why` one sentence for people."""

    def __init__(self, cloud: str, why: str) -> None:
        super().__init__(f"{cloud}: {why}")
        self.cloud = cloud
        self.why = why


class OfferGone(CloudError):
    """Somebody else took it, or it expired. Nothing was bought."""


class NoCapacity(CloudError):
    """The cloud has none of it at the moment. Nothing was bought."""


class InstanceGone(CloudError):
    """A read said so."""


class LaunchRefused(CloudError):
    """The cloud won't start this workload, now or later, wherever it goes. Nothing was bought."""


class CredentialsRefused(CloudError):
    """The key was refused. Nothing was bought."""


class CreditExhausted(CloudError):
    """The account has no money left. Nothing was bought."""


class Throttled(CloudError):
    """Asked too often. Nothing was done."""

    def __init__(self, cloud: str, why: str, after_s: float) -> None:
        super().__init__(cloud, why)
        self.after_s = after_s


class CloudDown(CloudError):
    """Unreachable, timed out, or answered nonsense."""


class OutcomeUnknown(CloudError):
    """A rent call whose answer was lost or ambiguous. `instance_id` is set when the answer named one all the same."""

    def __init__(self, cloud: str, why: str, instance_id: str | None = None) -> None:
        super().__init__(cloud, why)
        self.instance_id = instance_id
