"""Files that appear whole or not at all, and the folder of cached things.

Everything that is written goes to a temporary name beside its target and is renamed into place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moee.errors import MoEEError, OutputError


def cache_dir() -> Path:
    """Return the cache folder: `MOEE_CACHE`, or `moee` under the platform's cache directory. It may not exist yet."""
    override = os.environ.get("MOEE_CACHE")
    if override:
        return Path(override).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "moee"


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
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{target.name}.", suffix=".tmp")
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise _explain(target, error) from error


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` on success, delete it on any error.

    Raises:
        OutputError: If the folder is missing or not writable, or the disk is full.
    """
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        os.close(handle)
    except OSError as error:
        raise _explain(target, error) from error
    temporary = Path(name)
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


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; rename it to `target` on success, delete it on any error.

    An existing `target` is replaced as a whole.

    Raises:
        OutputError: If the parent cannot be created or written, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    except OSError as error:
        raise _explain(target, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if target.exists():
            retired = temporary.with_suffix(".old")
            target.rename(retired)
            temporary.rename(target)
            shutil.rmtree(retired)
        else:
            temporary.rename(target)
    except MoEEError:
        raise
    except OSError as error:
        raise _explain(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power, where the system lets folders be synchronised."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
