"""Fails, in the way its recipe asks for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.stages.failures import Diverged, GateMissed, OverBudget


class Labelled(Exception):
    """An exception that brings its own label."""

    label = "evicted"


def _daemon(path: Path) -> None:
    """Start a process that leaves our session and writes its pid to `path`."""
    code = f"import os,time; os.setsid(); open({str(path)!r},'w').write(str(os.getpid())); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code])
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)


def run(recipe, inputs, out, report):
    """Do what ``recipe.trouble`` says."""
    del inputs
    print("about to get into trouble", flush=True)
    report.progress(1, 2, "steps")
    report.point(0, loss=1.0)
    (out / "half.txt").write_text("half")
    mark = Path(recipe.text)
    match recipe.trouble:
        case "value":
            raise ValueError("a bug")
        case "memory":
            raise MemoryError
        case "torch memory":
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        case "diverged":
            raise Diverged("loss is nan at step 3")
        case "budget":
            raise OverBudget("used 3 of 2 device-hours")
        case "gate":
            raise GateMissed("a reference solution failed")
        case "labelled":
            raise Labelled("the node went away")
        case "recipe":
            raise InvalidRecipeError("TinyRecipe.text: no")
        case "connection":
            raise ConnectionResetError("peer")
        case "disk full":
            raise OSError(errno.ENOSPC, "No space left on device")
        case "exit":
            sys.exit(0)
        case "hard exit":
            os._exit(0)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "interrupt":
            raise KeyboardInterrupt
        case "nothing":
            (out / "half.txt").unlink()
        case "pickle":
            (out / "model.pkl").write_text("x")
        case "once":
            if not mark.exists():
                mark.touch()
                raise ConnectionError("the first time")
        case "flood":
            sys.stdout.write("x" * 79 + "\n")
            for _ in range(50_000):
                sys.stdout.write("y" * 79 + "\n")
        case "daemon":
            _daemon(mark)
        case "daemon, then wait":
            _daemon(mark)
            time.sleep(600)
        case "wait":
            mark.write_text(str(os.getpid()))
            time.sleep(600)
        case "silent":
            time.sleep(recipe.seconds)
        case "nan":
            report.metric(loss=float("nan"), steps=3)
            report.point(1, loss=float("inf"))
        case "bad metric":
            report.metric(loss=[1, 2])
        case _:
            raise AssertionError(recipe.trouble)
