"""Files that appear whole or not at all, and the folder of cached things.

Everything that is written goes to a temporary name beside its target and is renamed into place.
A temporary file or folder is locked while its writer lives, so that those of killed writers can be told and removed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moee.errors import MoEEError, OutputError

_UNWRITABLE: set[tuple[Path, str]] = set()
"""Caches that a warning was given for, and why they cannot be written."""
_TEMPORARY, _RETIRED = ".tmp", ".old"
_HERE, _RENAME_EXCHANGE = -100, 2
"""`AT_FDCWD` and the flag of `renameat2`, from Linux's headers."""


def cache_dir() -> Path:
    """Return the cache folder: `MOEE_CACHE`, or `moee` under the platform's cache directory. It may not exist yet."""
    override = os.environ.get("MOEE_CACHE")
    if override:
        return Path(override).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "moee"


@contextmanager
def best_effort(cache: Path) -> Iterator[None]:
    """Make a failure to write into a cache a warning, once in a process; what was computed is used all the same."""
    try:
        yield
    except (OSError, OutputError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        reason = getattr(cause, "strerror", None) or cause
        if (cache, str(reason)) in _UNWRITABLE:
            return
        _UNWRITABLE.add((cache, str(reason)))
        warnings.warn(
            f"The cache {str(cache)!r} cannot be written ({reason}). This run goes on "
            "without it, and the next one computes everything again. Make room, or choose another folder with "
            "--cache or MOEE_CACHE.",
            stacklevel=1,
        )


def _explain(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"Cannot write {str(target)!r}: {error.strerror or error}. Nothing was left half-written. "
        "Check that the folder exists and is writable and that the disk has room, or choose another place."
    )


def check_writable(target: Path) -> None:
    """Find out whether a file or folder called `target` could be created, before any work is done for it.

    A file is created and removed in the nearest folder that exists: permissions alone do not tell (read-only mounts,
    quotas, root).

    Raises:
        OutputError: If it could not.
    """
    try:
        folder = next(parent for parent in target.absolute().parents if parent.exists())
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{target.name}.", suffix=_TEMPORARY)
        os.close(handle)
        Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise _explain(target, error) from error


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` on success, delete it on any error.

    What a process that was killed here left beside `target` is removed.

    Raises:
        OutputError: If the folder is missing or not writable, or the disk is full.
    """
    try:
        temporary, lock = _begin(target, _make_file)
    except OSError as error:
        raise _explain(target, error) from error
    try:
        yield temporary
        # mkstemp makes files private; results get the permissions any new file would have
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except MoEEError:
        raise  # some are OSErrors too, and say themselves what went wrong
    except OSError as error:
        raise _explain(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
        _unlock(lock)


@contextmanager
def atomic_folder(target: Path, *, keep: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; put it in the place of `target` on success, delete it on any error.

    An existing `target` is replaced as a whole, by exchanging the two names in one step: whenever a process is killed,
    `target` is the old folder or the new one. Where the system cannot exchange names it takes two steps, and who was
    killed between them leaves no `target`: `recover_folder` and the next call here put the old one back. What a killed
    process left beside `target` is removed.

    Args:
        target: The folder. Where it is a symbolic link, what it points to is replaced.
        keep: Called with `target` at the end, if there is one then; if true, it is kept and the new folder deleted.

    Raises:
        OutputError: If the parent cannot be created or written, or the disk is full.
    """
    try:
        target = target.resolve() if target.is_symlink() else target
        target.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(target)
        temporary, lock = _begin(target, _make_folder)
    except OSError as error:
        raise _explain(target, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        _publish(temporary, target, keep)
    except MoEEError:
        raise
    except OSError as error:
        raise _explain(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _unlock(lock)


def recover_folder(target: Path) -> None:
    """Put an old folder back whose writer was killed after it had set it aside and before the new one was in place.

    Readers call it before they open a folder; it does nothing where there is one. It waits for a writer at work.
    """
    if target.exists():
        return
    for retired in _left_beside(target, _RETIRED):
        lock = _lock(retired, wait=True)
        try:
            if not target.exists():
                retired.rename(target)
        except OSError:
            pass  # a writer has finished in between, or another reader was first
        finally:
            _unlock(lock)


def _make_file(target: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_TEMPORARY)
    os.close(handle)
    return Path(name)


def _make_folder(target: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=_TEMPORARY))


def _begin(target: Path, make: Callable[[Path], Path]) -> tuple[Path, int | None]:
    """Remove what killed writers left, and make a temporary file or folder that is locked as long as we live."""
    for suffix in (_TEMPORARY, _RETIRED):
        for left in _left_beside(target, suffix):
            _remove_if_left(left)
    while True:
        temporary = make(target)
        lock = _lock(temporary, wait=True)
        if temporary.exists():
            return temporary, lock
        _unlock(lock)  # another writer took it for a dead one's before it was locked


def _left_beside(target: Path, suffix: str) -> list[Path]:
    """Return the temporary files and folders of writers of `target`, at work or dead."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}{re.escape(suffix)}")  # as `tempfile` names them
    try:
        return [Path(entry.path) for entry in os.scandir(target.parent) if ours.fullmatch(entry.name)]
    except OSError:
        return []  # what is wrong with the folder is said when we write to it


def _remove_if_left(path: Path) -> None:
    lock = _lock(path, wait=False)
    if lock is None:
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    _unlock(lock)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Lock a file or folder until `_unlock` or the end of the process, however that ends; None if it cannot be.

    The lock belongs to the file and not to its name, so that it stays through a renaming.
    """
    if sys.platform == "win32":
        return None  # a file that is open cannot be renamed there; what killed writers leave stays
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _publish(temporary: Path, target: Path, keep: Callable[[Path], bool] | None) -> None:
    """Give `temporary` the name `target`; afterwards the folder of that name before, if any, is `temporary`."""
    if not target.exists():
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            return
    if (keep is not None and keep(target)) or _exchange(temporary, target):
        return
    retired = temporary.with_suffix(_RETIRED)
    lock = _lock(target, wait=True)  # a reader that finds no target waits for it
    try:
        target.rename(retired)
        try:
            temporary.rename(target)
        except OSError:
            retired.rename(target)
            raise
        shutil.rmtree(retired, ignore_errors=True)
    finally:
        _unlock(lock)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system, its C library or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power, where the system lets folders be synchronised."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
