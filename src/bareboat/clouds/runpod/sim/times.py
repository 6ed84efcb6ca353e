"""Moments as RunPod writes them."""

import datetime


def iso(at_s: float) -> str:
    """RFC 3339 in seconds, UTC."""
    return datetime.datetime.fromtimestamp(int(at_s), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_ms(at_s: float) -> str:
    """RFC 3339 in milliseconds, UTC."""
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def go(at_s: float) -> str:
    """As Go prints a time: what v1 has been seen to answer."""
    moment = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} +0000 UTC"
