"""Filters over the fields of records: `year >= 2020 and lang in ("en", "de")`.

A filter has the form of a Python expression and is read by Python's own parser, but nothing of it is ever evaluated:
what is not on a short list of forms is refused. It becomes SQL whose values are parameters, or is applied to a mapping.

A field that a record lacks is None. As in SQL, it passes no comparison and no negation of one: neither `year == 2020`
nor `year != 2020` nor `not year == 2020`. Ask for it with `year is None`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from moee.errors import InputError, UnknownNameError, shown
from moee.stores.store import FieldType, Value

MAX_LENGTH = 4096
"""Most characters of a filter."""
MAX_DEPTH = 32
"""How deep parentheses and `not` may be nested."""
INTEGERS = range(-(2**63), 2**63)
"""What an integer field can hold, in every store."""

_ALLOWED = (
    "Allowed are ==, !=, <, <=, >, >=, in, not in, is None, is not None, and, or, not and parentheses; on one side a "
    'field, on the other a string, a number, True or False: year >= 2020 and lang in ("en", "de"). '
    'Write field("...") for a field whose name is not a Python name.'
)
_SQL = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "in": "IN", "not in": "NOT IN"}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPERATORS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}
_STRINGS = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_LINES = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")
"""Where Python's parser begins a line."""
_HABITS = (
    (re.compile(r"(?<![=!<>:])=(?!=)"), "Use == to compare."),
    (re.compile(r"<>"), "Use != for not equal."),
    (re.compile(r"&&|\|\||\b(?:AND|OR|NOT|IN|IS|NULL)\b"), "Use and, or, not, in, is and None."),
)
"""What other languages write, and what to write here."""


def quoted(name: str, mark: str = '"') -> str:
    """Return a name between marks; one inside it is doubled."""
    return mark + name.replace(mark, 2 * mark) + mark


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the SQL of a store writes columns and values.

    Attributes:
        placeholder: What stands for a value that is a parameter; None where there are no parameters.
        quote: Returns the name of a column as it is written.
        literal: Returns a value as it is written, where there are no parameters.
    """

    placeholder: str | None
    quote: Callable[[str], str] = quoted
    literal: Callable[[Value], str] = repr


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A field against a value, or against a tuple of values (`in`)."""

    field: str
    operator: str
    value: Value | tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class _Missing:
    """`is None`, or `is not None`."""

    field: str
    is_negated: bool


@dataclass(frozen=True, slots=True)
class _Not:
    part: _Node


@dataclass(frozen=True, slots=True)
class _Junction:
    """`and` or `or` over two or more parts."""

    word: Literal["and", "or"]
    parts: tuple[_Node, ...]


_Node = _Comparison | _Missing | _Not | _Junction


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on the fields of a record.

    Attributes:
        text: The filter as it was written.
        root: Read by the methods.
    """

    text: str
    root: _Node

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read a filter.

        Args:
            text: A filter, for example `2000 <= year < 2010 and not (lang == "en" or is_draft)`. A field alone means
                that it is true. At most `MAX_LENGTH` characters, nested at most `MAX_DEPTH` deep.

        Raises:
            InputError: If it is not a filter; says where and what is allowed.
        """
        stripped = text.strip()
        if len(stripped) > MAX_LENGTH:
            raise InputError(f"The filter has {len(stripped):,} characters; at most {MAX_LENGTH:,} are allowed.")
        return cls(stripped, _Reader(stripped).read())

    def check(self, fields: Mapping[str, FieldType]) -> None:
        """Check that every field exists and is compared with values of its own type.

        Args:
            fields: The types of the index's fields, `Layout.fields`.

        Raises:
            UnknownNameError: If a field does not exist; names close ones.
            InputError: If a value is of another type than its field, or true and false are put in an order.
        """
        for leaf in _leaves(self.root):
            if leaf.field not in fields:
                if not fields:
                    raise InputError(f"The filter names the field {leaf.field!r}, but the index has no fields.")
                raise UnknownNameError("field", leaf.field, fields)
            if isinstance(leaf, _Comparison):
                _check_comparison(leaf, fields[leaf.field])

    def sql(self, dialect: Dialect, columns: Mapping[str, str] | None = None) -> tuple[str, list[Value]]:
        """Return the filter as a condition in SQL, and the values of its parameters in order.

        A record that lacks a field passes no comparison of it, as the module says.

        Args:
            dialect: That of the store.
            columns: The column of each field, if it is not called as the field is.
        """
        named, values = columns or {}, list[Value]()

        def write(value: Value) -> str:
            if dialect.placeholder is None:
                return dialect.literal(value)
            values.append(value)
            return dialect.placeholder

        return _sql(self.root, lambda name: dialect.quote(named.get(name, name)), write), values


class _Reader:
    """Turns Python's syntax tree into ours, and refuses the rest of Python."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self) -> _Node:
        if not self._text:
            raise InputError(f"The filter is empty. {_ALLOWED}")
        try:
            tree = ast.parse(self._text, mode="eval")
        except SyntaxError as error:
            before = "".join(_LINES.split(self._text)[: (error.lineno or 1) - 1])
            position = len(before) + error.offset - 1 if error.offset else len(self._text)  # 0 is the end
            self._refuse(position, "Python cannot read it", cause=error)
        except (ValueError, MemoryError, RecursionError) as error:
            raise InputError(f"The filter cannot be read: {error or 'it is nested too deep'}. {_ALLOWED}") from error
        return self._condition(tree.body, 1)

    def _condition(self, node: ast.expr, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            self._refuse_node(node, f"it is nested more than {MAX_DEPTH} deep here")
        if isinstance(node, ast.BoolOp):
            parts = tuple(self._condition(value, depth + 1) for value in node.values)
            return _Junction("and" if isinstance(node.op, ast.And) else "or", parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return _Not(self._condition(node.operand, depth + 1))
        if isinstance(node, ast.Compare):
            return self._chain(node)
        name = self._field(node)
        if name is None:
            self._refuse_node(node, "this is no condition")
        return _Comparison(name, "==", True)

    def _chain(self, node: ast.Compare) -> _Node:
        """Read `a < b`, and `a < b < c` as `a < b and b < c`."""
        sides = [node.left, *node.comparators]
        parts = tuple(
            self._comparison(left, _OPERATORS[type(symbol)], right)
            for left, symbol, right in zip(sides[:-1], node.ops, sides[1:], strict=True)
        )
        return parts[0] if len(parts) == 1 else _Junction("and", parts)

    def _comparison(self, left: ast.expr, symbol: str, right: ast.expr) -> _Node:
        name, other = self._field(left), right
        if name is None and symbol in _MIRRORED:
            name, other, symbol = self._field(right), left, _MIRRORED[symbol]
        if name is None:
            self._refuse_node(
                left, "this compares no field" if symbol in _MIRRORED else f"left of `{symbol}` is no field"
            )
        if symbol in {"is", "is not"}:
            if not (isinstance(other, ast.Constant) and other.value is None):
                self._refuse_node(other, f"`{symbol}` compares with None alone; use == or != for other values")
            return _Missing(name, symbol == "is not")
        if symbol in {"in", "not in"}:
            if not isinstance(other, ast.Tuple | ast.List | ast.Set) or not other.elts:
                self._refuse_node(other, f"`{symbol}` needs values in parentheses with commas, for example (1, 2)")
            return _Comparison(name, symbol, tuple(self._value(item) for item in other.elts))
        return _Comparison(name, symbol, self._value(other))

    def _field(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return node.id
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "field"
            and len(node.args) == 1
            and not node.keywords
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            return node.args[0].value
        return None

    def _value(self, node: ast.expr) -> Value:
        sign = 1
        inner = node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign = -1 if isinstance(node.op, ast.USub) else 1
            inner = node.operand
        value = inner.value if isinstance(inner, ast.Constant) else node
        if isinstance(value, bool | str) and inner is node:
            return self._string(node, value) if isinstance(value, str) else value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return sign * value + 0  # -0.0 becomes 0.0: DataFusion tells them apart
        if value is None:
            self._refuse_node(node, "None cannot be compared; use `is None` or `is not None`")
        if self._field(node) is not None:
            self._refuse_node(node, "a field can be compared with a value alone; put a string in quotes")
        self._refuse_node(node, "this is no value")

    def _string(self, node: ast.expr, value: str) -> str:
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            self._refuse_node(node, "this string has a NUL character or half a surrogate pair")
        return value

    def _refuse_node(self, node: ast.expr, what: str) -> NoReturn:
        lines = _LINES.split(self._text)
        before = lines[node.lineno - 1].encode()[: node.col_offset].decode()  # the parser counts bytes
        self._refuse(sum(map(len, lines[: node.lineno - 1])) + len(before), what)

    def _refuse(self, position: int, what: str, cause: Exception | None = None) -> NoReturn:
        bare = _STRINGS.sub(lambda match: " " * len(match[0]), self._text)
        habit = next((f"{advice} " for pattern, advice in _HABITS if pattern.search(bare)), "")
        position = min(position, len(self._text))
        place = f"position {position + 1} ({self._text[position : position + 20]!r})"
        if position == len(self._text):
            place = "its end"
        raise InputError(
            f"The filter {shown(self._text, 200)} is not understood at {place}: {what}. {habit}{_ALLOWED}"
        ) from cause


def _sql(node: _Node, column: Callable[[str], str], value: Callable[[Value], str]) -> str:
    if isinstance(node, _Junction):
        return "(" + f" {node.word.upper()} ".join(_sql(part, column, value) for part in node.parts) + ")"
    if isinstance(node, _Not):
        return f"(NOT {_sql(node.part, column, value)})"
    name = column(node.field)
    if isinstance(node, _Missing):
        return f"({name} IS {'NOT ' if node.is_negated else ''}NULL)"
    if isinstance(node.value, tuple):
        return f"({name} {_SQL[node.operator]} ({', '.join(map(value, node.value))}))"
    return f"({name} {_SQL[node.operator]} {value(node.value)})"


def _leaves(node: _Node) -> Iterator[_Comparison | _Missing]:
    if isinstance(node, _Junction):
        for part in node.parts:
            yield from _leaves(part)
    elif isinstance(node, _Not):
        yield from _leaves(node.part)
    else:
        yield node


def _check_comparison(leaf: _Comparison, kind: FieldType) -> None:
    if kind == "boolean" and leaf.operator not in {"==", "!=", "in", "not in"}:
        raise InputError(f"The field {leaf.field!r} is true or false and has no order; use == or != with it.")
    for value in leaf.value if isinstance(leaf.value, tuple) else (leaf.value,):
        if not is_of_type(value, kind):
            raise InputError(
                f"The filter compares the field {leaf.field!r} with {value!r}; it must be {describe_type(kind)}."
            )


def is_of_type(value: Value, kind: FieldType) -> bool:
    """Return whether a field of type `kind` can hold `value` exactly, in every store; None is of no type."""
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if kind == "integer":
        return isinstance(value, int) and value in INTEGERS
    return math.isfinite(value) if isinstance(value, float) else value in INTEGERS and float(value) == value


def describe_type(kind: FieldType) -> str:
    """Return what a value of a field must be, in words."""
    return {
        "string": "a string, in quotes",
        "boolean": "True or False",
        "integer": "a whole number of at most 64 bits",
        "number": "a finite number that a 64-bit float holds exactly",
    }[kind]
