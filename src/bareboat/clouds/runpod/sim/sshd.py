"""What stands for OpenSSH's server in the images of this simulation: a program of that name which stays up, while the
machine's own ssh server answers on port 22."""

import dataclasses

from bareboat.simulation import images

PATH = "/usr/local/sbin/sshd"
STANDS_FOR_SSHD = """\
#!/bin/sh
echo "Server listening on 0.0.0.0 port 22."
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"""


class Catalog(images.Catalog):
    """A catalogue whose images all have an sshd."""

    def __init__(self, inner: images.Catalog) -> None:
        self._inner = inner

    @property
    def names(self) -> list[str]:
        return self._inner.names

    def resolve(self, reference: str, login: images.Login | None = None) -> images.Image | images.Refusal:
        found = self._inner.resolve(reference, login)
        if isinstance(found, images.Refusal):
            return found
        return dataclasses.replace(found, files={**found.files, PATH: STANDS_FOR_SSHD})
