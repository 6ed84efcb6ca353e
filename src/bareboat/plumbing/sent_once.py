"""Requests of which each is sent once at most, and what a failure says of whether it was sent at all: what a call that
buys hangs on. For aiohttp's client, which else repeats some requests by itself when a kept connection breaks."""

import aiohttp

NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
"""No connection came about: the request provably never left."""


class Broken(Exception):
    """The connection broke under a request that may have arrived."""


async def never_twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A client's middleware. Hides a broken connection from aiohttp, as `Broken`; `NEVER_SENT` passes as it is."""
    try:
        return await handler(request)
    except NEVER_SENT:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Broken(str(error) or type(error).__name__) from error
