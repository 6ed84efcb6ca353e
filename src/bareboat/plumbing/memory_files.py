"""Paths for libraries that take nothing else, to content that shall touch no disk: private keys, above all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def holding(content: bytes) -> Iterator[Path]:
    """A path to the content for the length of the block, readable by this process.

    In memory where the system can, so that a read-only file system does no harm; else a private temporary file.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("bareboat", os.MFD_CLOEXEC)
        try:
            # It is memory and never waits; without this mark, tools that look for blocking calls can't know.
            os.set_blocking(descriptor, False)
            os.write(descriptor, content)
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield Path(file.name)
