"""What can go wrong with an image's registry, named by what the caller does next.

RegistryError
├── BadReference     the pod's fault: its image name means nothing (InvalidImageName); say so, do not retry
├── ImageNotFound    there is none of that name, or it hides: say so, try again as seldom as a pull (ErrImagePull)
├── Unauthorized     the registry wants a login, or refused those it got: the same, and pull secrets are to be checked
├── WrongPlatform    there is one, for other machines: say so, do not retry
├── Throttled        wait `after_s`, then ask again
└── RegistryDown     no usable answer: ask again later; nothing can be concluded
"""


class RegistryError(Exception):
    """`why` is one sentence for people without a full stop; it never holds a login or what a server sent as text."""

    reason = "ErrImagePull"
    """Of a container that waits for it, in the kubelet's words."""

    def __init__(self, image: str, why: str) -> None:
        super().__init__(f"image {image!r}: {why}")
        self.image = image
        self.why = why


class BadReference(RegistryError):
    reason = "InvalidImageName"


class ImageNotFound(RegistryError):
    """The registry said so. Some say it of private images, too."""


class Unauthorized(RegistryError):
    """The registry said so. Some say it of images that don't exist, too."""


class WrongPlatform(RegistryError):
    """No variant for linux on the machines' architecture."""


class Throttled(RegistryError):
    """Asked too often, or the account's pulls of the hour are used up."""

    def __init__(self, image: str, why: str, after_s: float) -> None:
        super().__init__(image, why)
        self.after_s = after_s


class RegistryDown(RegistryError):
    """Unreachable, timed out, out of order, or answered what makes no sense."""
