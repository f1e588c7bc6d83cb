"""Every error the package raises on purpose.

MoEEError
├── InputError (ValueError)               a text, file or option that cannot be used; exit code 2
│   ├── UnknownNameError                  a name that is not one of a closed set; suggests close matches
│   ├── DataError                         an evaluation set that is not as its task type wants it
│   └── NoDataError                       an evaluation set that is not there
├── TextTypeError (TypeError)             a text that is not a string; exit code 2
├── TruncationError (ValueError)          a text over the limit under truncate="error"; exit code 1
├── UnsupportedArchitectureError (ValueError)   a model whose routers we cannot find; exit code 2
│   └── NoMoELayersError                  a dense model; points to `moee carve`
├── CheckpointError (ValueError)          a folder with missing, corrupt or pickled weights; exit code 1
├── CalibrationError (ValueError)         statistics that do not fit the model, prompt or view; exit code 1
├── NonFiniteActivationsError (ArithmeticError) NaN or infinity; names the text and the layer; exit code 1
├── OutOfMemoryError (MemoryError)        memory ran out while a model was loaded or run; exit code 1
├── OutputError (OSError)                 a result that cannot be written; exit code 1
├── StoreError (OSError)                  an index's store that cannot be opened, reached or read; exit code 1
├── MissingExtraError (ImportError)       an optional dependency is absent; gives the install line; exit code 1
└── DisagreementError                     a benchmark's entries do not compute the same; exit code 1

A message says what is wrong with the value shown, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class MoEEError(Exception):
    """Base of all errors of the package."""

    exit_code = 1


class InputError(MoEEError, ValueError):
    """Something the caller passed cannot be used."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name is not one of a closed set."""

    def __init__(self, kind: str, value: object, allowed: Iterable[str], *, hint: str = "") -> None:
        names = sorted(allowed)
        close = difflib.get_close_matches(str(value), names, n=3, cutoff=0.5)
        parts = [f"Unknown {kind} {value!r}. Choose from: {', '.join(names)}."]
        if close:
            parts.append(f"Did you mean {' or '.join(repr(name) for name in close)}?")
        if hint:
            parts.append(hint)
        super().__init__(" ".join(parts))


class TextTypeError(MoEEError, TypeError):
    """A text is not a string."""

    exit_code = 2


class TruncationError(MoEEError, ValueError):
    """A text is longer than the limit and the caller asked for an error."""


class UnsupportedArchitectureError(MoEEError, ValueError):
    """The routers of a model cannot be found, or its routing cannot serve embeddings."""

    exit_code = 2


class NoMoELayersError(UnsupportedArchitectureError):
    """The model is dense."""


class CheckpointError(MoEEError, ValueError):
    """A checkpoint is missing, incomplete, corrupt, or of a refused format."""


class CalibrationError(MoEEError, ValueError):
    """Calibration statistics do not belong to this model, prompt or view."""


class NonFiniteActivationsError(MoEEError, ArithmeticError):
    """A hidden state or router logit is NaN or infinite.

    Attributes:
        row: Index of the text: in the batch when a backend raises it, in the caller's list once it leaves the package.
        what: Kind of the value, with its layer.
    """

    def __init__(self, *, row: int, what: str, text: str | None = None) -> None:
        self.row = row
        self.what = what
        which = f" ({shown(text)})" if text is not None else ""
        super().__init__(
            f"Text {row}{which}: the {what} is NaN or infinite. A model in a narrow dtype can overflow: "
            "try dtype='float32'; if that fails too, the checkpoint itself is damaged."
        )


class OutOfMemoryError(MoEEError, MemoryError):
    """Memory ran out while a model was loaded or run."""

    def __init__(self, doing: str) -> None:
        """Say what was going on in `doing`."""
        super().__init__(
            f"Out of memory {doing}. Make batches smaller (batch_tokens, --batch-tokens), let layers be read from disk "
            "one after the other (memory, --memory 4GiB), or round to 8 bits on a CPU (precision, --precision int8)."
        )


class OutputError(MoEEError, OSError):
    """A result cannot be written."""


class StoreError(MoEEError, OSError):
    """The store of an index cannot be opened, reached or read."""


class MissingExtraError(MoEEError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, purpose: str, extra: str, *, command: str | None = None) -> None:
        """Give `command` where installing the extra is not the best way."""
        line = command or f"pip install 'moee[{extra}]'"
        super().__init__(f"`{package}` is needed for {purpose}. Install it with: {line}")


def check_choice(kind: str, value: str, allowed: Iterable[str]) -> None:
    """Raise `UnknownNameError` unless `value` is one of `allowed`."""
    names = tuple(allowed)
    if value not in names:
        raise UnknownNameError(kind, value, names)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, with the next where it ends in a colon; else its class's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def shown(value: object, most: int = 60) -> str:
    """Return a value for a message as Python writes it; what is longer than `most` characters ends in three dots."""
    # a long string is cut first: its repr may be many times as long
    whole = repr(value[: most + 1]) if isinstance(value, (str, bytes)) else repr(value)
    return whole if len(whole) <= most else f"{whole[: most - 3]}..."


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return names for a message, the first `most` of them."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
