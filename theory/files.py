"""Files that are whole or not there at all: written under a temporary name, flushed to disk, renamed.

A process may be killed, or a machine lose its power, between any two lines of this module: under a file's name stands
what stood there before or the new content, never a part of it. Temporary names are of this module's own making: what
others have there is neither followed, if it is a link, nor removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latebloom.theory.errors import InputError

__all__ = ["commit_directory", "file_sha256", "hold", "replaced_directory", "unfinished_directory", "write_whole"]

UNFINISHED = "latebloom.lock"  # in a directory that is being made: it is ours, and held by the process that makes it


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all.

    Args:
        path: File to write, in a directory that is there; what it held is replaced.
        content: Text (written as UTF-8) or bytes.

    Raises:
        OSError: if it cannot be written; what ``path`` held stays.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        handle = _open_alone(part)
    except OSError as error:
        error.filename = str(path)  # the name that the user knows
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.truncate(0)  # what a call that was killed left
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def commit_directory(part: Path, target: Path) -> None:
    """Give the finished directory ``part`` its name ``target``, in the same parent.

    A directory that stands at ``target`` is renamed aside, to :func:`replaced_directory`, and removed only when the
    new one has its name: at no moment are both gone. Files get the directory's rights, whatever wrote them.

    Args:
        part: Directory of files that are written; they are flushed to disk here.
        target: Its name from now on.

    Raises:
        OSError: if a file cannot be flushed or renamed.
    """
    rights = part.stat().st_mode & 0o666
    for path in sorted(part.rglob("*")):
        if path.is_file():
            path.chmod(rights)
        _flush(path)
    _flush(part)
    aside = replaced_directory(target)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    try:
        part.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    _flush(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def replaced_directory(target: Path) -> Path:
    """Where :func:`commit_directory` keeps what stood at ``target`` while it is replaced.

    Args:
        target: The directory's name.
    """
    return target.with_name(f".{target.name}.replaced")


def _open_alone(part: Path) -> int:
    """Open ``part`` for this process alone, once no other one writes it; a link is not followed."""
    while True:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), part.lstat()):
                return handle
        os.close(handle)  # the process before us gave it its name meanwhile


@contextlib.contextmanager
def unfinished_directory(target: Path) -> Iterator[Path]:
    """The directory in which ``target`` is made, ``.NAME.part`` beside it, held for this process.

    What a call that was killed left there is kept, for the next one to go on with or to remove. When
    :func:`commit_directory` has given it its name, its mark is taken out of it.

    Args:
        target: The directory's name when it is finished.

    Raises:
        InputError: if another process makes it, or if what stands there was not made here.
    """
    part = target.with_name(f".{target.name}.part")
    mark = part / UNFINISHED
    if part.is_symlink() or (part.exists() and not mark.is_file() and (not part.is_dir() or any(part.iterdir()))):
        rule = "is in the way, and was not made here"
        raise InputError("path", str(part), rule, "move it away, or give another --out")
    part.mkdir(parents=True, exist_ok=True)
    with hold(mark, name="--out", value=str(target)) as file:
        if not mark.exists() or not os.path.samestat(os.fstat(file.fileno()), mark.stat()):
            rule = "was just made by another process"
            raise InputError("--out", str(target), rule, "look at it, or give another --out")
        yield part
        if not part.exists():
            (target / UNFINISHED).unlink(missing_ok=True)


@contextlib.contextmanager
def hold(lock: Path, *, name: str, value: str) -> Iterator[Any]:
    """Hold the file ``lock`` for this process; the system releases it when the process ends, however.

    Where the file system has no locks nobody can be kept out, and nobody is held up.

    Args:
        lock: The file; it is made if need be, and says which process holds it.
        name: What is held, for the message: an option or an argument.
        value: Its value.

    Raises:
        InputError: naming the process that holds it.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(handle, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(file.read())
            rule = f"is in use by process {owner.get('pid')} on {owner.get('host')}"
            raise InputError(name, value, rule, "wait for it, stop it, or use another --out") from None
        except OSError:
            pass
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
        file.flush()
        yield file


def _owner(text: str) -> dict[str, Any]:
    """What a lock says of the process that holds it; nothing if it was written by something else."""
    try:
        owner = json.loads(text)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Have the disk hold what was written to a file, or the names in a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
