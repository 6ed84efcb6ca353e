"""Vast's search language: its golden vectors, its official parser as an oracle, and errors that point."""

import json
import math
import re
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies
from vastai.api import query as oracle  # type: ignore[import-untyped]

from bareboat.clouds.vast import query as queries

GOLDEN: list[tuple[str, dict[str, Any]]] = [
    (
        "reliability > 0.98 num_gpus=1 gpu_name=RTX_3090 rented=False",
        {
            "reliability": {"gt": "0.98"},
            "num_gpus": {"eq": "1"},
            "gpu_name": {"eq": "RTX 3090"},
            "rented": {"eq": False},
        },
    ),
    ('gpu_name in ["RTX 4090", "RTX 3090"]', {"gpu_name": {"in": ["RTX 4090", "RTX 3090"]}}),
    (
        "gpu_ram>=24 cpu_ram>64 duration>3",
        {"gpu_ram": {"gte": 24000.0}, "cpu_ram": {"gt": 64000.0}, "duration": {"gt": 259200.0}},
    ),
    ("driver_version >= 535.86.05", {"driver_version": {"gte": 535086005}}),
    ("driver_version>=535", {"driver_version": {"gte": "535"}}),
    ("cuda_vers>=12.4 cuda_max_good<13", {"cuda_max_good": {"gte": "12.4", "lt": "13"}}),
    ("geolocation in US,CA", {"geolocation": {"in": ["US", "CA"]}}),
    ("num_gpus not in [1,2]", {"num_gpus": {"notin": ["1", "2"]}}),
    ("num_gpus=1;num_gpus=2", {"num_gpus": {"eq": "1;num gpus=2"}}),
    ("gpu_name=rtx_4090", {"gpu_name": {"eq": "rtx 4090"}}),
    ("gpu_name noteq RTX_3090", {"gpu_name": {"neq": "RTX 3090"}}),
    ("gpu_name not eq RTX_3090", {"gpu_name": {"neq": "RTX 3090"}}),
    ("geolocation nin [US]", {"geolocation": {"notin": ["US"]}}),
    ("cluster_id=null static_ip==true", {"cluster_id": {"eq": None}, "static_ip": {"eq": True}}),
    ("num_gpus=1 num_gpus=2", {"num_gpus": {"eq": "2"}}),
    ('mobo_name="A B C"', {"mobo_name": {"eq": "A B C"}}),
    ("dph<=0.5 dlperf_usd>100", {"dph_total": {"lte": "0.5"}, "dlperf_per_dphtotal": {"gt": "100"}}),
    ("", {}),
]


@pytest.mark.parametrize(("text", "expected"), GOLDEN)
def test_golden_vectors(text: str, expected: dict[str, Any]) -> None:
    assert queries.parse(text) == queries.Parsed(expected)


def test_any_removes_the_default_of_its_field() -> None:
    parsed = queries.parse("verified=any rentable=any", defaults=True)
    assert parsed.query == {"external": {"eq": False}, "rented": {"eq": False}}


def test_a_clause_replaces_the_default_and_leaves_the_defaults_themselves_alone() -> None:
    parsed = queries.parse("verified=false external!=true", defaults=True)
    assert parsed.query["verified"] == {"eq": False}
    assert parsed.query["external"] == {"eq": False, "neq": True}
    assert queries.parse("", defaults=True).query == queries.DEFAULTS


def test_words_of_a_shell_are_joined() -> None:
    assert queries.parse(["num_gpus", ">=", "2", "gpu_name=RTX_4090"]).query == {
        "num_gpus": {"gte": "2"},
        "gpu_name": {"eq": "RTX 4090"},
    }


def test_an_unknown_field_is_sent_with_a_warning_that_suggests_one() -> None:
    parsed = queries.parse("gpuname=L4 foo=1")
    assert parsed.query == {"gpuname": {"eq": "L4"}, "foo": {"eq": "1"}}
    assert parsed.warnings == (
        "unknown field 'gpuname' (did you mean gpu_name?): sent as it is",
        "unknown field 'foo': sent as it is",
    )


@pytest.mark.parametrize(
    ("text", "told", "pointed_at"),
    [
        ("rented=False num_gpus", "Unknown operator", "num_gpus"),
        ("num_gpus=>3", "Unknown operator '=>'", "num_gpus=>3"),
        ("reliability>0.9 num_gpus=", "Value cannot be blank", "num_gpus="),
        ("(num_gpus=1)", "Unconsumed text", "(num_gpus=1)"),
        ("rented!=any", "Wildcard only makes sense with equals.", "rented!=any"),
        ("num_gpus=1 gpu_ram>=lots rented=false", "gpu_ram is 'lots'; it takes a number of GB", "gpu_ram>=lots"),
        ("duration>=nan", "duration is 'nan'; it takes a number of days", "duration>=nan"),
        ("gpu_ram in [24,48]", "gpu_ram takes one number", "gpu_ram in [24,48]"),
        ("driver_version>=535.86", "it takes 535 or 535.86.05", "driver_version>=535.86"),
        ("driver_version in [535.86.05]", "not a list", "driver_version in [535.86.05]"),
        ("geolocation in []", "Value cannot be blank", "geolocation in []"),
        ('{"num_gpus": {"eq": 1}, "gpu_ram": {"is": 2}}', "Unknown operator 'is' for 'gpu_ram'", '"is"'),
        ('{"num_gpus": 1}', 'write {"num_gpus": {"eq": 1}}', '"num_gpus"'),
        ('{"geolocation": {"in": "US"}}', "takes a list", '"geolocation"'),
        ('{"num_gpus": {"eq": {}}}', "not an object", '"num_gpus"'),
        ('{"type": "spot"}', "'type' is \"spot\"; allowed is one of on-demand", '"type"'),
        ('{"limit": 0}', "a whole number from 1 up", '"limit"'),
        ('{"order": ["score"]}', "a list of [FIELD,", '"order"'),
        ('{"gpu_ram": {"gte": NaN}}', "NaN is no value", "NaN"),
    ],
)
def test_an_error_points_at_the_clause(text: str, told: str, pointed_at: str) -> None:
    with pytest.raises(queries.QueryError) as caught:
        queries.parse(text)
    error = caught.value
    assert told in error.why
    assert text[error.at : error.at + error.length] == pointed_at
    sentence, line, marks = str(error).split("\n")
    assert (sentence, line) == (error.why, f"  {text}")
    assert marks == " " * (2 + error.at) + "^" * error.length


def test_a_fault_in_json_of_many_lines_shows_its_line() -> None:
    with pytest.raises(queries.QueryError) as caught:
        queries.parse('{\n  "num_gpus": {"eq": 1},\n  "rented": {eq: false}\n}')
    assert str(caught.value).split("\n")[1:] == ['    "rented": {eq: false}', "               ^"]


def test_json_is_sent_as_it_stands() -> None:
    query = {
        "gpu_name": {"in": ["RTX 4090"]}, "dph_total": {"lte": 0.5}, "order": [["dph_total", "asc"]],
        "type": "bid", "limit": 64, "allocated_storage": 12.5, "disable_bundling": True,
    }  # fmt: skip
    assert queries.parse(json.dumps(query), defaults=True) == queries.Parsed(query)


def test_json_with_an_unknown_field_warns() -> None:
    assert queries.parse('{"label_name": {"eq": "a_b"}}').warnings == ("unknown field 'label_name': sent as it is",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("score-", [["score", "desc"]]),
        ("a-,b+,c", [["a", "desc"], ["b", "asc"], ["c", "asc"]]),
        ("-dph, dlperf_usd", [["dph_total", "desc"], ["dlperf_per_dphtotal", "asc"]]),
        ("", []),
        (",", []),
    ],
)
def test_orders(text: str, expected: list[list[str]]) -> None:
    assert queries.parse_order(text) == expected == oracle.parse_order(text)


CLAUSES = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(sorted(queries.FIELDS) + sorted(queries.ALIASES) + ["foo"]),
        strategies.sampled_from(
            [
                "=",
                "==",
                " = ",
                "!=",
                ">",
                ">=",
                "<",
                " <=",
                " in ",
                " not in ",
                " nin ",
                " neq ",
                " eq ",
                "=>",
                " ",
                "!",
            ]
        ),
        strategies.one_of(
            strategies.sampled_from(
                ["any", "?", "true", "False", "None", "null", "535.86.05", "24", "0.5", '"a b"', "[1,2]"]
            ),
            strategies.text('ab1_.",[]*;=é', max_size=6),
        ),
    ),
    max_size=4,
)


def _by_oracle(text: str, defaults: bool) -> dict[str, Any] | None:
    start = {field: dict(tests) for field, tests in queries.DEFAULTS.items()} if defaults else {}
    try:
        parsed: dict[str, Any] = oracle.parse_query(
            text, start, oracle.offers_fields, oracle.offers_alias, oracle.offers_mult
        )
    except (ValueError, TypeError, AttributeError):
        return None
    return parsed


@hypothesis.given(CLAUSES, strategies.booleans())
def test_text_means_what_it_means_to_the_official_command_line(
    clauses: list[tuple[str, str, str]], defaults: bool
) -> None:
    text = " ".join("".join(clause) for clause in clauses)
    expected = _by_oracle(text, defaults)
    if expected is None:
        with pytest.raises(queries.QueryError):
            queries.parse(text, defaults=defaults)
    else:
        assert queries.parse(text, defaults=defaults).query == expected


@hypothesis.given(strategies.text(max_size=40))
def test_any_text_is_a_query_or_an_error_that_points_into_it(text: str) -> None:
    try:
        queries.parse(text)
    except queries.QueryError as error:
        assert 0 <= error.at < max(1, len(error.text))


WORDS = strategies.from_regex(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9.]{0,6}( [A-Za-z0-9.]{1,5})?", re.ASCII), fullmatch=True
)
PLAIN_WORDS = WORDS.filter(lambda word: word not in ("any", "true", "True", "false", "False", "null", "None"))
PLAIN_FIELDS = strategies.sampled_from(sorted(queries.FIELDS - queries.MULTIPLIERS.keys() - {"driver_version"}))
SCALARS = strategies.sampled_from(["eq", "neq", "gt", "gte", "lt", "lte"])
LISTS = strategies.sampled_from(["in", "notin"])
QUERIES = strategies.one_of(
    strategies.dictionaries(
        PLAIN_FIELDS,
        strategies.one_of(
            strategies.dictionaries(
                SCALARS, PLAIN_WORDS | strategies.booleans() | strategies.none(), min_size=1, max_size=2
            ),
            strategies.dictionaries(LISTS, strategies.lists(PLAIN_WORDS, min_size=1, max_size=3), min_size=1),
        ),
        max_size=4,
    ),
    strategies.dictionaries(
        strategies.sampled_from(sorted(queries.MULTIPLIERS)),
        strategies.dictionaries(
            SCALARS, strategies.integers(0, 10**6).map(lambda number: number * 86400.0), min_size=1, max_size=2
        ),
        max_size=3,
    ),
    strategies.fixed_dictionaries(
        {"driver_version": strategies.dictionaries(SCALARS, strategies.integers(0, 999_999_999), min_size=1)}
    ),
)


@hypothesis.given(QUERIES)
def test_a_query_survives_the_way_into_text_and_back(query: dict[str, dict[str, Any]]) -> None:
    back = queries.parse(queries.text_of(query))
    assert back.warnings == ()
    assert back.query.keys() == query.keys()
    for field, tests in query.items():
        for operator, value in tests.items():
            read = back.query[field][operator]
            assert math.isclose(read, value) if field in queries.MULTIPLIERS else read == value


@pytest.mark.parametrize("value", ["a_b", 'say "x"', "any", "true", "", ["a,b"], "[x]", 1j])
def test_what_the_language_cannot_say_is_refused_rather_than_changed(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        queries.text_of({"gpu_name": {"in" if isinstance(value, list) else "eq": value}})
