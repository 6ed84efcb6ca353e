"""Label selectors in kubectl's words: `tier=batch,team in (a, b),!keep-local`. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]{0,251}[A-Za-z0-9])?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s+\(([^()]*)\)")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
ALLOWED = "terms such as tier=batch, tier!=web, team in (a,b), team notin (c), gpu and !keep-local, with commas between"


@dataclass(frozen=True, slots=True)
class Term:
    """`values` None: whether the label is there at all. `negated` terms hold where the label is missing."""

    key: str
    values: frozenset[str] | None
    negated: bool

    def fits(self, labels: Mapping[str, str]) -> bool:
        if self.values is None:
            return (self.key in labels) != self.negated
        return (labels.get(self.key) in self.values) != self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """Without terms it fits everything. `text` is what a person wrote."""

    text: str = ""
    terms: tuple[Term, ...] = ()

    def fits(self, labels: Mapping[str, str] | None) -> bool:
        return all(term.fits(labels or {}) for term in self.terms)


def parse(text: str) -> Selector:
    """Raises ValueError with what is allowed."""
    parts = [part.strip() for part in re.split(r",(?![^()]*\))", text) if part.strip()]
    return Selector(text, tuple(map(_term, parts)))


def _term(text: str) -> Term:
    if match := _SET.fullmatch(text):
        values = frozenset(value.strip() for value in match[3].split(","))
        return Term(match[1], values, match[2] == "notin")
    if match := _EQUAL.fullmatch(text):
        return Term(match[1], frozenset({match[3]}), match[2] == "!=")
    if match := _EXISTS.fullmatch(text):
        return Term(match[2], None, bool(match[1]))
    raise ValueError(f"{text!r} is no term of a label selector; allowed are {ALLOWED}")
