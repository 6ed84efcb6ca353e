"""What can go wrong on the way to an instance over ssh, named by what the caller does next.

AccessError
├── Unreachable     not now: wait, or look for another address
├── KeyRefused      its server takes none of our keys: wait for keys on their way, or admit one
├── HostKeyChanged  somebody else answers: send nothing, tell people
├── Gone            we hung up for good: the instance is not ours to reach any more
├── Dropped         the connection broke in the middle: what was under way has an unknown end
├── NotListening    the machine answers, but nothing listens on that port of it
└── RemoteFailed    the machine answers, and could not do it: no space, no such file, no such program
"""


class AccessError(Exception):
    """`why` is for people, and never holds a secret."""

    def __init__(self, instance_id: str, why: str) -> None:
        super().__init__(f"instance {instance_id}: {why}")
        self.instance_id = instance_id
        self.why = why


class Unreachable(AccessError):
    pass


class KeyRefused(AccessError):
    pass


class HostKeyChanged(AccessError):
    """`pinned` and `offered` are fingerprints."""

    def __init__(self, instance_id: str, pinned: str, offered: str, where: str) -> None:
        super().__init__(
            instance_id,
            f"the host key of {where} has changed: it was {pinned} at the first contact and is {offered} now. Either"
            " the container was made anew, or somebody else answers there; nothing was sent. To trust the new key,"
            " remove the pin",
        )
        self.pinned = pinned
        self.offered = offered


class Gone(AccessError):
    pass


class Dropped(AccessError):
    pass


class NotListening(AccessError):
    pass


class RemoteFailed(AccessError):
    pass
