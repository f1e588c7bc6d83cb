from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from moee.errors import InputError, UnknownNameError
from moee.stores.filters import MAX_DEPTH, MAX_LENGTH, Filter
from moee.stores.flat import FlatStore
from moee.stores.lancedb import LanceStore
from moee.stores.pgvector import PgVectorStore
from moee.stores.registry import StoreSpec, create_store
from moee.stores.store import FieldType, Layout, Record, Value
from tests.stores.records import ids, is_accepted

FIELDS: dict[str, FieldType] = {
    "year": "integer",
    "Price": "number",
    "lang": "string",
    "is_open": "boolean",
    "page count": "integer",
}
RECORD: dict[str, Value] = {"year": 2020, "Price": 9.5, "lang": "en", "is_open": True, "page count": None}


def passes(text: str) -> bool:
    condition = Filter.parse(text)
    condition.check(FIELDS)
    return is_accepted(condition, RECORD)


@pytest.mark.parametrize(
    "text",
    [
        "year == 2020",
        "year != 2021",
        "2019 < year <= 2020",
        "9 < Price and Price < 10",
        "Price == 9.5 and Price > -1",
        "lang in ('de', 'en')",
        "lang not in ['de', 'fr']",
        "is_open",
        "is_open == True and not is_open != True",
        "not (year == 1 or lang == 'de')",
        "year == 1 or lang == 'en'",
        "field('page count') is None",
        "field('year') is not None",
        "  (year\n == 2020)\t",
        "lang < 'eo' and lang > 'em'",
    ],
)
def test_a_filter_passes_what_it_says(text: str) -> None:
    assert passes(text)
    assert not passes(f"not ({text})")


@pytest.mark.parametrize(
    "text", ["{} == 3", "{} != 3", "not {} == 3", "not {} in (1, 2)", "{} not in (1, 2)", "{} < 3 or {} >= 3"]
)
def test_a_missing_value_passes_no_comparison_and_no_negation_of_one(text: str) -> None:
    assert not passes(text.replace("{}", "field('page count')"))
    assert passes(text.replace("{}", "field('page count')") + " or year == 2020")
    assert not passes(f"year == 2020 and ({text.replace('{}', 'field(chr)').replace('chr', repr('page count'))})")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("year = 2020", r"at position 6 \('= 2020'\): Python cannot read it. Use == to compare. Allowed are"),
        ("lang == 'a=b' and year = 3", r"position 24 .*Use == to compare"),
        ("year <> 3", r"Use != for not equal"),
        ("year > 3 AND is_open", r"Use and, or, not, in, is and None"),
        ("year > 3 && is_open", r"Use and, or, not"),
        ("year == NULL", r"position 9 \('NULL'\): a field can be compared with a value alone; .* Use and, or, not"),
        ("year == None", r"None cannot be compared; use `is None`"),
        ("year is 3", r"`is` compares with None alone"),
        ("year == lang", r"position 9 \('lang'\): a field can be compared with a value alone; put a string in quotes"),
        ("3 == 4", r"position 1 \('3 == 4'\): this compares no field"),
        ("'en' in lang", r"left of `in` is no field"),
        ("lang in 'en'", r"`in` needs values in parentheses with commas"),
        ("year in ()", r"`in` needs values"),
        ("year in (2000, None)", r"None cannot be compared"),
        ("3", r"this is no condition"),
        ("year + 1 == 2", r"compares no field"),
        ("year == 1 + 1", r"position 9 \('1 \+ 1'\): this is no value"),
        ("year == 1e999", r"this is no value"),
        ("year == 1j", r"this is no value"),
        ("lang == b'en'", r"this is no value"),
        ("lang == f'{year}'", r"this is no value"),
        ("lang == 'a\\0b'", r"NUL character or half a surrogate"),
        ("lang == '\\ud800'", r"NUL character or half a surrogate"),
        ("year == -True", r"this is no value"),
        ("é == 1 and f(x)", r"position 12 \('f\(x\)'\): this is no condition"),
        ("(year == 1 and\n 'é' == lang and\n x.y)", r"position 34 \('x.y\)'\): this is no condition"),
        ("lang.upper() == 'EN'", r"compares no field"),
        ("lang[0] == 'e'", r"compares no field"),
        ("__import__('os').system('false')", r"this is no condition"),
        ("(lambda: year)()", r"this is no condition"),
        ("[x for x in year]", r"this is no condition"),
        ("year == 1 if is_open else is_open", r"this is no condition"),
        ("(year := 3)", r"this is no condition"),
        ("field(lang) == 'x'", r"compares no field"),
        ("field('a', 'b') == 'x'", r"compares no field"),
        ("year == 1; is_open", r"Python cannot read it"),
        ("year ==", r"at its end: Python cannot read it"),
        ("", r"The filter is empty. Allowed are"),
        ("   ", r"The filter is empty"),
        ("year\0 == 1", r"cannot be read|Python cannot read it"),
        ("lang == '\ud800'", r"cannot be read"),
        ("(" * 300 + "year" + ")" * 300, r"Python cannot read it|cannot be read"),
        ("not " * (MAX_DEPTH + 1) + "is_open", rf"nested more than {MAX_DEPTH} deep"),
        ("not " * 1000 + "is_open", r"nested|cannot be read|Python cannot read it"),
        ("lang == '" + "x" * MAX_LENGTH + "'", r"has 4,106 characters; at most 4,096"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Filter.parse(text)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("yaer == 3", UnknownNameError, r"Unknown field 'yaer'.*Did you mean 'year'"),
        ("price == 3", UnknownNameError, r"Unknown field 'price'.*Did you mean 'Price'"),
        ("is_open and (lang == 'x' or not colour == 'red')", UnknownNameError, r"Unknown field 'colour'"),
        ("year == '2020'", InputError, r"field 'year' with '2020'; it must be a whole number"),
        ("year == 2020.5", InputError, r"with 2020.5; it must be a whole number of at most 64 bits"),
        ("year == 9223372036854775808", InputError, r"at most 64 bits"),
        ("year", InputError, r"field 'year' with True; it must be a whole number"),
        ("lang", InputError, r"field 'lang' with True; it must be a string, in quotes"),
        ("lang in ('en', 3)", InputError, r"field 'lang' with 3"),
        ("Price == True", InputError, r"field 'Price' with True; it must be a finite number"),
        ("Price > 9007199254740993", InputError, r"64-bit float holds exactly"),
        ("is_open == 1", InputError, r"field 'is_open' with 1; it must be True or False"),
        ("is_open > False", InputError, r"has no order; use == or !="),
    ],
)
def test_fields_and_types_are_checked(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Filter.parse(text).check(FIELDS)


def test_without_fields_there_is_nothing_to_filter_by() -> None:
    with pytest.raises(InputError, match="names the field 'year', but the index has no fields"):
        Filter.parse("year == 3").check({})


def test_values_are_parameters_and_names_are_quoted() -> None:
    condition = Filter.parse("""field('a"b%`') == "x'; DROP TABLE t; --" and year in (1, 2)""")
    values = ["x'; DROP TABLE t; --", 1, 2]
    assert condition.sql(FlatStore.dialect) == ('(("a""b%`" = ?) AND ("year" IN (?, ?)))', values)
    assert condition.sql(PgVectorStore.dialect) == ('(("a""b%%`" = %s) AND ("year" IN (%s, %s)))', values)
    assert condition.sql(LanceStore.dialect) == ("((`a\"b%``` = 'x''; DROP TABLE t; --') AND (`year` IN (1, 2)))", [])
    assert condition.sql(FlatStore.dialect, {"year": "field_1"})[0].endswith('("field_1" IN (?, ?)))')


INTEGERS = [None, 0, 1, -1, 2020, 2**53 + 1, 2**53, -(2**63), 2**63 - 1, -(2**63) + 1]
NUMBERS = [None, 0.0, -0.0, 0.1, -1e-300, 5e-324, 1e308, -1.7976931348623157e308, 2.0**53, 3, -7]
STRINGS = [
    None,
    "",
    "a",
    "A",
    "b",
    "ä",
    "z",
    "日本",
    "🙂",
    "\uffff",
    "it's",
    'say "hi"',
    "back\\slash",
    "%",
    "%s",
    "?",
    "a\nb",
    " ",
]
BOOLEANS = [None, True, False]


def random_record(number: int, rng: random.Random) -> Record:
    values = {"year": INTEGERS, "Price": NUMBERS, "lang": STRINGS, "is_open": BOOLEANS, "page count": INTEGERS}
    return Record(f"id-{number}", "text", {name: rng.choice(choices) for name, choices in values.items()})


def random_filter(rng: random.Random, depth: int = 0) -> str:
    """A filter of any form that is allowed."""
    kind = rng.random()
    if depth < 4 and kind < 0.25:
        return f"not ({random_filter(rng, depth + 1)})"
    if depth < 4 and kind < 0.7:
        word = rng.choice([" and ", " or "])
        return "(" + word.join(random_filter(rng, depth + 1) for _ in range(rng.randint(2, 3))) + ")"
    name, choices = rng.choice(
        [("year", INTEGERS), ("Price", NUMBERS), ("lang", STRINGS), ("is_open", BOOLEANS), ("page count", INTEGERS)]
    )
    written = f"field({name!r})" if " " in name else name
    values = [repr(value) for value in choices if value is not None]
    operators = ["==", "!="] if name == "is_open" else ["==", "!=", "<", "<=", ">", ">="]
    if kind < 0.75:
        return f"{written} is {rng.choice(['', 'not '])}None"
    if kind < 0.85:
        return f"{written} {rng.choice(['in', 'not in'])} ({', '.join(rng.choices(values, k=3))})"
    comparison = f"{written} {rng.choice(operators)} {rng.choice(values)}"
    return comparison if kind < 0.93 else f"{rng.choice(values)} {rng.choice(operators)} {comparison}"


def test_every_store_leaves_what_matches_does(spec: StoreSpec, tmp_path: Path) -> None:
    """Missing values, both zeros, the ends of every range, and every order of strings, under random conditions."""
    rng = random.Random(5)
    records = [random_record(number, rng) for number in range(120)]
    store = create_store(spec, tmp_path, Layout({"hs": 2, "rw": 2}, FIELDS))
    vectors = np.random.default_rng(0).standard_normal((120, 4)).astype(np.float32)
    store.upsert(records, vectors)
    outcomes = set()
    for _ in range(250):
        condition = Filter.parse(random_filter(rng))
        condition.check(FIELDS)
        expected = {record.id for record in records if is_accepted(condition, record.fields)}
        assert set(ids(store.search(vectors[0], 200, condition))) == expected, condition.text
        outcomes.add(len(expected))
    store.close()
    assert len(outcomes) > 30, "the conditions differ in what they leave"
