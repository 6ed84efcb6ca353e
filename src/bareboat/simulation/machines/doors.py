"""The door of a machine's ssh server, at the monitor's end: shut, or open with the server started by the first caller.

The server is a process of its own in the machine's namespaces; when it dies (by the machine's end, or dropped) the
door waits for the next caller.
"""

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable

Enter = Callable[[Callable[[], None]], int | None]
"""Forks a child into the machine and runs something there; its process id, or None while nothing runs."""


class Door:
    """`serve` is what the server's process does; `admit` is told its id, for the machine's memory limit."""

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        enter: Enter,
        serve: Callable[[socket.socket], None],
        *,
        is_open: bool,
    ) -> None:
        self._listener = listener
        self._selector = selector
        self._enter = enter
        self._serve = serve
        self._server: int | None = None
        self._open = is_open
        listener.setblocking(False)
        self._listen()

    def set_open(self, is_open: bool) -> None:
        """Shut, callers are refused; whoever is in stays."""
        self._open = is_open

    def drop(self) -> None:
        """Ends the server and every connection with it; commands without a terminal go on."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server, signal.SIGKILL)

    def bury(self) -> None:
        """Ends the server and reaps it."""
        self.drop()
        if self._server is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._server, 0)

    def _listen(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_connection)

    def _on_connection(self, listener: socket.socket) -> None:
        self._server = self._enter(lambda: self._serve(listener)) if self._open else None
        if self._server is None:
            with contextlib.suppress(OSError):
                caller, _ = listener.accept()
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                caller.close()
            return
        self._selector.unregister(listener)
        self._selector.register(os.pidfd_open(self._server), selectors.EVENT_READ, self._on_exit)

    def _on_exit(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        if self._server is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._server, 0)
            self._server = None
            self._listen()
