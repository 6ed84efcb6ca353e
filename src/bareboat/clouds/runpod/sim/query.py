"""Reads GraphQL documents: as much of the language as clients of RunPod use. No types are checked here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bareboat.clouds.runpod.sim import replies

_TOKEN = re.compile(
    r"[\s,]*(?:\#[^\n]*[\s,]*)*(?:(?P<punctuation>\.\.\.|[!$():=@\[\]{|}])|(?P<name>[_A-Za-z]\w*)"
    r'|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<block>"""(?:.|\n)*?""")|(?P<text>"(?:\\.|[^"\\\n])*"))'
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}


@dataclass(slots=True)
class Field:
    """One selection: its name, the key of its answer, its arguments with variables put in, what is selected in it."""

    name: str
    key: str
    arguments: dict[str, Any]
    fields: "list[Field]" = field(default_factory=list)


@dataclass(slots=True)
class Document:
    """One operation."""

    kind: str
    fields: list[Field]


def parse(text: str, variables: Mapping[str, Any] | None = None) -> Document:
    """Raises Refused with GRAPHQL_PARSE_FAILED."""
    return _Reader(text, variables or {}).document()


def selected(value: Any, fields: list[Field]) -> Any:
    """What of a value was asked for, under the keys asked for; unknown fields are a validation error."""
    if value is None or not fields:
        return value
    if isinstance(value, list):
        return [selected(each, fields) for each in value]
    if not isinstance(value, Mapping):
        raise invalid(f'Field must not have a selection since type "{type(value).__name__}" has no subfields.')
    found: dict[str, Any] = {}
    for each in fields:
        if each.name not in value:
            raise invalid(f'Cannot query field "{each.name}".')
        inner = value[each.name]
        found[each.key] = selected(inner(each.arguments) if callable(inner) else inner, each.fields)
    return found


def invalid(text: str) -> replies.Refused:
    return replies.Refused(400, text, code="GRAPHQL_VALIDATION_FAILED")


class _Reader:
    def __init__(self, text: str, variables: Mapping[str, Any]) -> None:
        self._text = text
        self._variables = dict(variables)
        self._at = 0

    def document(self) -> Document:
        kind = "query"
        if self._peek() != "{":
            kind = self._next()
            if kind not in ("query", "mutation"):
                raise self._wrong(kind)
            if self._peek() not in ("{", "("):
                self._next()
            if self._peek() == "(":
                self._declarations()
        return Document(kind, self._selection())

    def _declarations(self) -> None:
        """`($name: Type! = default)`; only the defaults matter."""
        self._expect("(")
        while self._peek() != ")":
            self._expect("$")
            name = self._next()
            self._expect(":")
            while self._peek() in ("[", "]", "!") or (self._peek() not in ("=", "$", ")")):
                self._next()
            if self._peek() == "=":
                self._next()
                self._variables.setdefault(name, self._value())
        self._expect(")")

    def _selection(self) -> list[Field]:
        self._expect("{")
        fields = []
        while self._peek() != "}":
            if self._peek() == "...":
                self._next()
                if self._peek() == "on":
                    self._next()
                    self._next()
                fields += self._selection()
                continue
            fields.append(self._field())
        self._expect("}")
        return fields

    def _field(self) -> Field:
        name = key = self._next()
        if self._peek() == ":":
            self._next()
            name = self._next()
        arguments: dict[str, Any] = {}
        if self._peek() == "(":
            self._next()
            while self._peek() != ")":
                argument = self._next()
                self._expect(":")
                arguments[argument] = self._value()
            self._expect(")")
        return Field(name, key, arguments, self._selection() if self._peek() == "{" else [])

    def _value(self) -> Any:
        token = self._next()
        if token == "$":
            return self._variables.get(self._next())
        if token == "[":
            items = []
            while self._peek() != "]":
                items.append(self._value())
            self._next()
            return items
        if token == "{":
            found = {}
            while self._peek() != "}":
                name = self._next()
                self._expect(":")
                found[name] = self._value()
            self._next()
            return found
        return _scalar(token)

    def _expect(self, token: str) -> None:
        found = self._next()
        if found != token:
            raise self._wrong(found)

    def _peek(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        return match[match.lastgroup or 0] if match is not None else ""

    def _next(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._wrong("<EOF>")
        self._at = match.end()
        return match[match.lastgroup or 0]

    def _wrong(self, token: str) -> replies.Refused:
        return replies.Refused(400, f"Syntax Error: Unexpected {token!r}.", code="GRAPHQL_PARSE_FAILED")


def _scalar(token: str) -> Any:
    if token.startswith('"""'):
        return token[3:-3].strip("\n")
    if token.startswith('"'):
        unescaped = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), token[1:-1])
        return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), unescaped)
    if token[0] == "-" or token[0].isdigit():
        return float(token) if any(mark in token for mark in ".eE") else int(token)
    return _WORDS.get(token, token)
