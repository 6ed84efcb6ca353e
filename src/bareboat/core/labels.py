"""The mark on each rented instance, and nothing else: who rented it, for whom, in which try."""

import re
from dataclasses import dataclass

PREFIX = "bareboat"
_PART = re.compile(r"[A-Za-z0-9.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Mark:
    """`bareboat/<cluster-id>/<owner-uid>/<attempt>`: written on the instance in the rent call, unique per attempt."""

    cluster_id: str
    owner_uid: str
    attempt: str

    def __post_init__(self) -> None:
        for name in ("cluster_id", "owner_uid", "attempt"):
            value = getattr(self, name)
            if not _PART.fullmatch(value):
                raise ValueError(f"{name} of a mark is {value!r}; allowed are 1–64 letters, digits, '.' and '-'")

    def __str__(self) -> str:
        return f"{PREFIX}/{self.cluster_id}/{self.owner_uid}/{self.attempt}"

    @classmethod
    def parse(cls, label: str | None) -> "Mark | None":
        """The mark in a cloud's label or name; None when it is not one of ours in form."""
        parts = (label or "").strip().split("/")
        if len(parts) != 4 or parts[0] != PREFIX or not all(_PART.fullmatch(part) for part in parts[1:]):
            return None
        return cls(*parts[1:])
