"""TLS of the kubelet API: the certificate shown and the client CA trusted, both replaceable while connections live.

A client certificate is asked for, never required, so that bearer tokens work too. One that the client CA did not sign
ends the handshake (the kubelet would go on to other credentials; Python's TLS can't accept what it didn't verify).
"""

import ssl
from dataclasses import dataclass

from bareboat.plumbing import memory_files


class BadCertificate(Exception):
    """A certificate, key or CA bundle that TLS can't use; the text says which and why."""


@dataclass(frozen=True)
class KeyChain:
    """What the server shows: its certificate (and intermediates) and the private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return "KeyChain(…)"


class Tls:
    """Gives the listening socket one context for its whole life, and each new connection the newest settings.

    Not thread-safe: `present` and `trust` belong to the event loop's thread.
    """

    def __init__(self, chain: KeyChain, client_ca_pem: str | None = None) -> None:
        self._chain = chain
        self._client_ca_pem = client_ca_pem
        # OpenSSL takes "is a certificate asked for" from the context that a connection began with, all else from the
        # one swapped in by the callback below, which it calls for clients without a server name as well.
        self.listening = self._context(chain, client_ca_pem)
        self._current = self.listening
        self.listening.sni_callback = self._take_current

    @property
    def chain(self) -> KeyChain:
        return self._chain

    def present(self, chain: KeyChain) -> None:
        """Shows this certificate to new connections. Raises `BadCertificate` and changes nothing if it can't."""
        self._current = self._context(chain, self._client_ca_pem)
        self._chain = chain

    def trust(self, client_ca_pem: str | None) -> None:
        """Verifies client certificates of new connections against this bundle; None asks for none. Raises
        `BadCertificate` and changes nothing if it can't."""
        self._current = self._context(self._chain, client_ca_pem)
        self._client_ca_pem = client_ca_pem
        self.listening.verify_mode = self._current.verify_mode

    def _take_current(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    @staticmethod
    def _context(chain: KeyChain, client_ca_pem: str | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # SPDY upgrades live in HTTP/1.1 only.
        context.set_alpn_protocols(["http/1.1"])
        # A resumed session would bring its old client certificate past a changed client CA.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        try:
            with (
                memory_files.holding(chain.certificate_pem) as certificate_path,
                memory_files.holding(chain.key_pem) as key_path,
            ):
                context.load_cert_chain(certificate_path, key_path)
        except (ssl.SSLError, ValueError) as error:
            raise BadCertificate(
                f"the serving certificate and key are no usable PEM pair ({error}); they have to belong together, and"
                " the key must not be encrypted"
            ) from error
        if client_ca_pem is not None:
            try:
                context.load_verify_locations(cadata=client_ca_pem)
            except (ssl.SSLError, ValueError) as error:
                raise BadCertificate(f"the client CA bundle holds no usable PEM certificate ({error})") from error
            # As Go does: an intermediate named in the bundle is an anchor of its own.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_mode = ssl.CERT_OPTIONAL
        return context
