"""A program that does a piece of work again and again, each time killed one step later, until once it is not.

`python -m tests.files.kill_steps WATCHED_FOLDER [two-renames] ACTION ARGUMENTS...`: after every kill it prints the
number of the step and waits for a line, so that a test can look at what there is. A step is what Python reports of
system calls that write, make, rename, remove or lock something in the watched folder; the kill comes before it.
"""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from moee import MoEE
from moee.cli import app
from moee.files import atomic

_NAMED = ("open", "os.rename", "os.mkdir", "os.chmod", "shutil.rmtree")
_ALWAYS = ("os.remove", "os.rmdir", "fcntl.flock")  # these name what they act on relative to an open folder, or not


def save(folder: str, alpha: str) -> None:
    MoEE.from_pretrained("fake", calibration="none", alpha=float(alpha)).save(folder)


def moee(*arguments: str) -> None:
    sys.argv = ["moee", "-q", *arguments]
    with Path(os.devnull).open("w") as sys.stdout:  # the other one is for numbers of steps
        assert app._run() == 0


def carve(dense: str, folder: str, seed: str) -> None:
    from moee.carve import CarveConfig
    from moee.carve import carve as run
    from moee.data import calibration_texts

    config = CarveConfig(
        num_experts=4, top_k=2, calibration_tokens=1500, profile_tokens=500, heldback_tokens=300, sequence_length=64,
        batch_tokens=512, seed=int(seed),
    )  # fmt: skip
    run(dense, Path(folder), texts=calibration_texts(), config=config)


ACTIONS: dict[str, Callable[..., None]] = {"save": save, "moee": moee, "carve": carve}


_IMPORTED = {
    "save": [],
    "moee": ["typer._adapters", "moee.files.read", "moee.method.calibration", "moee.data"],
    "carve": ["moee.carve.pipeline", "moee.data", "transformers.models.llama", "transformers.models.qwen2_moe"],
}


def kill_before(step: int, folder: Path) -> None:
    """Have this process killed before its `step`-th step."""
    steps = itertools.count()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and not int(arguments[2]) & (os.O_WRONLY | os.O_RDWR):  # type: ignore[call-overload]
            return
        named = event in _NAMED and any(str(folder) in os.fsdecode(each) for each in arguments if _is_path(each))
        if (named or event in _ALWAYS) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _is_path(value: object) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


def main() -> None:
    folder, *words = sys.argv[1:]
    if words[0] == "two-renames":  # as where the system cannot exchange two names
        atomic._exchange = lambda _one, _other: False
        del words[0]
    for module in _IMPORTED[words[0]]:  # once, and not in each child
        importlib.import_module(module)
    for step in itertools.count():
        child = os.fork()
        if child == 0:
            kill_before(step, Path(folder))
            ACTIONS[words[0]](*words[1:])
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            return
        assert code == -signal.SIGKILL, f"the work failed with {code}"
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()
        sys.stdin.readline()


if __name__ == "__main__":
    main()
