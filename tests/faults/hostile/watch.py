"""A watch over what reading an input does: audit hook, limits of memory and time, and the verdict."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from latebloom import cli
from tests.faults.hostile.inputs import INPUTS

MEMORY_BYTES = 4 << 30  # of addresses beyond what the process has; torch alone maps a good part of it
CPU_SECONDS, WALL_SECONDS = 20, 600
EXECUTES = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen",
            "pty.spawn", "pickle.find_class", "socket.connect", "socket.getaddrinfo", "urllib.Request",
            "webbrowser.open")  # fmt: skip
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "os.chmod",
           "shutil.rmtree", "shutil.move")  # fmt: skip


def watched(name: str, folder: Path, base: Path) -> dict[str, Any]:
    """What became of input ``name``: its end, what was said, what was done that must not be, seconds, MiB."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "work").mkdir(parents=True)
    (folder / "precious").write_text("kept")
    arguments = [str(word) for word in INPUTS[name](folder, base)]
    read_end, write_end = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.close(read_end)
        _in_child(arguments, folder, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    found = json.loads(said) if said else {"end": f"ended by the system ({status})", "out": "", "err": "", "done": []}
    kept = (folder / "precious").read_bytes() == b"kept"
    found |= {"name": name, "seconds": time.monotonic() - began, "cpu": usage.ru_utime + usage.ru_stime, "kept": kept,
              "canary": (folder / "canary").exists() or (folder / "work" / "canary").exists()}  # fmt: skip
    pages = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in folder.rglob("report.html")
        if path.is_file() and not path.is_symlink()
    ]
    return found | {"page": "\n".join(pages)}


def _in_child(arguments: list[str], folder: Path, pipe: int) -> None:
    """The command, under the hook and the system's limits; never returns."""
    done: list[str] = []
    work = str(folder / "work")

    def hook(event: str, arguments: tuple) -> None:
        if event in EXECUTES and not (event == "subprocess.Popen" and arguments[1] == ["git", "rev-parse", "HEAD"]):
            done.append(f"{event} {arguments!r}"[:200])
        writes = event == "open" and len(arguments) > 2 and isinstance(arguments[2], int) and (
            arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        )  # fmt: skip
        if (writes or event in CHANGES) and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.path.join(os.getcwd(), os.fsdecode(arguments[0])))
            there = event == "os.mkdir" and os.path.isdir(path)  # nothing comes of it
            if not path.startswith((work, "/dev/null")) and "__pycache__" not in path and not there:
                done.append(f"{event} {path}"[:200])

    limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(WALL_SECONDS)
    os.chdir(work)
    out, err, end = io.StringIO(), io.StringIO(), "returned"
    sys.addaudithook(hook)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main(arguments)
    except SystemExit as error:
        end = f"exit {error.code}"
    except BaseException as error:
        end = f"{type(error).__name__}: {error}"[:300]
        err.write("".join(traceback.format_exception(error)[-3:]))
    said = json.dumps({"end": end, "out": out.getvalue()[-5000:], "err": err.getvalue()[-5000:], "done": done})
    os.write(pipe, said.encode()[:60_000])
    os._exit(0)


def judge(found: dict[str, Any]) -> list[str]:
    """What is wrong with what became of an input; nothing, if it did nothing and was answered."""
    wrong = []
    if found["end"] not in ("exit 0", "exit 1", "exit 2"):
        wrong.append(f"ended as {found['end']}: {found['err'][-300:]}")
    if found["end"] in ("exit 1", "exit 2") and (
        found["err"].count("\n") != 1 or not found["err"].startswith("latebloom: ")
    ):
        wrong.append(f"said {found['err'][-300:]!r}")
    if found["done"]:
        wrong.append(f"did {found['done'][:3]}")
    if found["canary"] or not found["kept"]:
        wrong.append("left a canary, or changed what is the user's")
    if "\x1b" in found["out"] + found["err"] or "\x07" in found["out"] + found["err"]:
        wrong.append("sent escapes to the terminal")
    if any(f"<{element}" in found["page"].lower() for element in ("script>alert", "img", "/title><script")):
        wrong.append("wrote mark-up into the report")
    if found["cpu"] > CPU_SECONDS:
        wrong.append(f"took {found['cpu']:.0f} s")
    return wrong
