"""Times as the API server writes them."""

from datetime import UTC, datetime


def seconds(unix_s: float) -> str:
    """Kubernetes `Time`: `2027-01-02T03:04:05Z`."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro(unix_s: float) -> str:
    """Kubernetes `MicroTime`: `2027-01-02T03:04:05.000006Z`."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
