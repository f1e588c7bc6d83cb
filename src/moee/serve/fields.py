"""Texts and weights in requests: what is accepted, how it is checked, and how `/openapi.json` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from moee.errors import InputError, shown
from moee.files.text import find_fault, kind_of
from moee.method.fusion import LARGEST_ALPHA, LEAST_WEIGHT, VIEWS, check_weights
from moee.types import View

_VISIBLE = r"\S"
_TEXT_SCHEMA = {"type": "string", "pattern": _VISIBLE, "description": "A text with at least one visible character."}
TEXTS_SCHEMA = {"type": "array", "minItems": 1, "items": _TEXT_SCHEMA}
_DOCUMENT_SCHEMA = {
    "type": "object",
    "properties": {"text": _TEXT_SCHEMA},
    "required": ["text"],
    "additionalProperties": False,
}
_DOCUMENTS_SCHEMA = {"type": "array", "minItems": 1, "items": {"anyOf": [_TEXT_SCHEMA, _DOCUMENT_SCHEMA]}}
_IDS_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 0},
    "description": "Token ids of the model's own tokenizer.",
}
_INPUTS_SCHEMA = {
    "anyOf": [_TEXT_SCHEMA, TEXTS_SCHEMA, _IDS_SCHEMA, {"type": "array", "minItems": 1, "items": _IDS_SCHEMA}],
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a request wants embedded: texts, or token ids.

    Attributes:
        texts: One or more; empty if token ids were sent.
        tokens: One or more; empty if texts were sent.
    """

    texts: list[str]
    tokens: list[list[int]]

    def __len__(self) -> int:
        """Return the number of vectors that are wanted."""
        return len(self.texts) or len(self.tokens)


def _check_text(value: object, name: str = "The text") -> str:
    fault = find_fault(value, on_empty="error")
    if fault is not None:
        says = str(fault.error(name, if_empty="Leave it out; it has no meaning."))
        raise PydanticCustomError("empty" if fault.kind == "empty" else "text", "{says}", {"says": says})
    assert isinstance(value, str)
    return value


def whole(value: Any) -> Any:
    """Return a number without a fraction as an integer: to JSON, 5.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_ids(value: object, name: str) -> list[int]:
    ids = [whole(each) for each in value] if isinstance(value, list) else []
    if not isinstance(value, list) or not all(type(each) is int for each in ids):
        raise PydanticCustomError("tokens", "{says}", {"says": f"{name} is no list of token ids, which are integers."})
    if not value:
        raise PydanticCustomError("empty", "{says}", {"says": f"{name} holds no token ids. Leave it out."})
    return ids


def _check_inputs(value: object) -> Inputs:
    if isinstance(value, str):
        return Inputs([_check_text(value, "The input")], [])
    if not isinstance(value, list):
        says = f"The input is {kind_of(value)}; send a string, a list of strings, or token ids of the model."
        raise PydanticCustomError("text", "{says}", {"says": says})
    if not value:
        raise PydanticCustomError("empty", "{says}", {"says": "The input is an empty list. Send at least one text."})
    if type(whole(value[0])) is int:
        return Inputs([], [_check_ids(value, "The input")])
    if isinstance(value[0], list):
        return Inputs([], [_check_ids(each, f"Input {place}") for place, each in enumerate(value)])
    return Inputs([_check_text(each, f"Input {place}") for place, each in enumerate(value)], [])


def check_texts(value: object) -> list[str]:
    """Return a list of texts that can be embedded, or say which cannot."""
    if not isinstance(value, list):
        raise PydanticCustomError("text", "{says}", {"says": f"A list of texts is {kind_of(value)}; send a list."})
    if not value:
        raise PydanticCustomError("empty", "{says}", {"says": "A list of texts is empty. Send at least one text."})
    return [_check_text(each, f"Text {place}") for place, each in enumerate(value)]


def _check_documents(value: object) -> list[str]:
    if not isinstance(value, list):
        says = f"documents is {kind_of(value)}; send a list of strings, or of objects with `text`."
        raise PydanticCustomError("text", "{says}", {"says": says})
    if not value:
        raise PydanticCustomError("empty", "{says}", {"says": "documents is empty. Send at least one."})
    return [_check_document(each, place) for place, each in enumerate(value)]


def _check_document(value: object, place: int) -> str:
    if not isinstance(value, dict):
        return _check_text(value, f"Document {place}")
    if set(value) != {"text"}:
        fields = ", ".join(map(shown, value)) or "no fields"
        says = f"Document {place} is an object with {fields}; it must have `text` alone."
        raise PydanticCustomError("text", "{says}", {"says": says})
    return _check_text(value["text"], f"The text of document {place}")


def _check_weights(value: object) -> dict[View, float] | None:
    if value is None:
        return None
    try:
        return check_weights(value)
    except InputError as error:
        raise PydanticCustomError("weights", "{says}", {"says": str(error)}) from error


_WEIGHT_SCHEMA = {"anyOf": [{"const": 0}, {"type": "number", "minimum": LEAST_WEIGHT, "maximum": LARGEST_ALPHA}]}
_WEIGHTS_SCHEMA = {
    "anyOf": [
        {
            "type": "object",
            "properties": dict.fromkeys(VIEWS, _WEIGHT_SCHEMA),
            "additionalProperties": False,
            "minProperties": 1,
            # at least one counts
            "anyOf": [{"properties": {view: {"exclusiveMinimum": 0}}, "required": [view]} for view in VIEWS],
        },
        {"type": "null"},
    ],
}
Text = Annotated[str, PlainValidator(_check_text), WithJsonSchema(_TEXT_SCHEMA)]
TextList = Annotated[list[str], PlainValidator(check_texts), WithJsonSchema(TEXTS_SCHEMA)]
DocumentList = Annotated[list[str], PlainValidator(_check_documents), WithJsonSchema(_DOCUMENTS_SCHEMA)]
InputList = Annotated[Inputs, PlainValidator(_check_inputs), WithJsonSchema(_INPUTS_SCHEMA)]
Weights = Annotated[
    dict[View, float] | None,
    PlainValidator(_check_weights),
    WithJsonSchema(_WEIGHTS_SCHEMA),
    Field(
        description='What the cosine of every view counts, for example `{"hs": 1, "rw": 0.2, "lexical": 0.5}`; a '
        "view that is not named counts 0. They choose the fusion `weighted`, and go with no alpha. Null as configured.",
    ),
]
