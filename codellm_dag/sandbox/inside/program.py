"""Runs one untrusted program in a forked, locked-down child and writes what it returned.

The request (JSON on a descriptor) holds the program and nothing that it must not see. Results are lines
``<nonce> <JSON>`` on another descriptor. The program shares this process, so it can forge every line; that is
no more than lying about its own output, since nothing here knows what is expected. The nonce only keeps a
stray write apart from a result.
"""

from __future__ import annotations

import ast
import atexit
import importlib
import json
import mmap
import os
import random
import site
import sys
import threading
import traceback
import types
from typing import Any

import values  # pyright: ignore[reportMissingImports]

PRELOAD = (
    "abc array base64 bisect builtins calendar cmath collections collections.abc contextlib copy dataclasses "
    "datetime decimal enum fractions functools hashlib heapq inspect io itertools json math numbers operator "
    "os pathlib random re statistics string struct sys textwrap threading time traceback types typing "
    "unicodedata unittest uuid zlib"
)
"""Modules that programs often import, loaded once and shared by all of them."""


def preload() -> None:
    """Import PRELOAD, leaving out what this Python does not have, and make the standard streams."""
    for name in PRELOAD.split():
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    _make_streams()
    site.setquit()  # `exit` and `quit`; the rest of `site` is not wanted


_reserve: list[mmap.mmap] = []
"""Address space, given back when there is no memory left to report just that."""


class Results:
    """Writes result lines; holds on to the functions it needs, so that a patched module breaks nothing."""

    def __init__(self, descriptor: int, nonce: str) -> None:
        self._descriptor = descriptor
        self._nonce = nonce.encode()
        self._write = os.write
        self._dumps = values.dump

    def put(self, **record: Any) -> None:
        """Write one record."""
        data = memoryview(self._nonce + b" " + self._dumps(record).encode("ascii") + b"\n")
        while data:
            data = data[self._write(self._descriptor, data) :]


def run(request_descriptor: int, result_descriptor: int) -> None:
    """Read the request, run its program, write results. Returns only if the program lets it."""
    with open(request_descriptor, "rb") as file:
        request = json.loads(file.read())
    results = Results(result_descriptor, request["nonce"])
    streams = (sys.stdout, sys.stderr)
    _reserve.append(mmap.mmap(-1, 4 << 20))
    random.seed(0)
    mode = request["mode"]
    try:
        if mode == "calls":
            _run_calls(request, results)
        else:
            _run_script(request)
        results.put(end="ok")
    except SystemExit as error:
        results.put(**_exit_record(error, mode))
    except BaseException as error:
        _reserve.clear()
        results.put(end="error", error=describe(error), memory=isinstance(error, MemoryError))
        _print_traceback()
    finally:
        _flush(streams)


def _print_traceback() -> None:
    try:
        traceback.print_exc()
    except BaseException:
        return  # the program's own standard error is gone


def _run_calls(request: dict[str, Any], results: Results) -> None:
    module = _module("program")
    exec(compile(request["source"], "<program>", "exec", dont_inherit=True), module.__dict__)
    for index, call in enumerate(request["calls"]):
        random.seed(0)
        results.put(call=index, **_call(module, call))


def _call(module: types.ModuleType, call: dict[str, Any]) -> dict[str, Any]:
    arguments = [_literal(text) for text in call["args"]]
    keywords = {name: _literal(text) for name, text in call["kwargs"].items()}
    try:
        target: Any = module
        for part in call["entry_point"].split("."):
            target = getattr(target, part)
        value = target(*arguments, **keywords)
        if call["view"]:
            value = _VIEWS[call["view"]](value)
        record: dict[str, Any] = {"value": values.encode(value)}
    except values.UnsupportedValueError as error:
        record = {"unsupported": str(error)}
    except BaseException as error:
        _reserve.clear()
        record = {"error": describe(error), "memory": isinstance(error, MemoryError)}
    if call["show_arguments"]:
        record["arguments"] = _encode_or_none([arguments, keywords])
    return record


def _encode_or_none(value: Any) -> str | None:
    try:
        return values.encode(value)
    except values.UnsupportedValueError:
        return None


_VIEWS = {"tuple": tuple, "list": list, "set": set, "sorted": sorted, "bool": bool}
_LITERAL_NAMES = {
    "set": set,
    "frozenset": frozenset,
    "float": float,
    "bytearray": bytearray,
    "complex": complex,
    "nan": float("nan"),
    "inf": float("inf"),
}


def _literal(text: str) -> Any:
    """The value of a literal; ``set()``, ``frozenset(…)``, ``nan``, ``inf`` and ``float('…')`` too."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return eval(text, {"__builtins__": _LITERAL_NAMES})


def _run_script(request: dict[str, Any]) -> None:
    module = _module("__main__")
    exec(compile(request["source"], "<program>", "exec", dont_inherit=True), module.__dict__)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter's own end does
    atexit._run_exitfuncs()


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def _make_streams() -> None:
    """Standard streams that a child finds ready on its descriptors 0 to 2.

    A stream notes what kind of file it is on, so they are made on the kinds that a child has.
    """
    saved = [os.dup(number) for number in range(3)]
    reader, writer = os.pipe()
    empty = os.memfd_create("empty")
    for number, descriptor in enumerate((empty, writer, writer)):
        os.dup2(descriptor, number)
    sys.stdin = sys.__stdin__ = _stream(0, "r", "surrogateescape")
    sys.stdout = sys.__stdout__ = _stream(1, "w", "backslashreplace")
    sys.stderr = sys.__stderr__ = _stream(2, "w", "backslashreplace")
    for number, descriptor in enumerate(saved):
        os.dup2(descriptor, number)
    for descriptor in (*saved, reader, writer, empty):
        os.close(descriptor)


def _flush(streams: tuple[Any, ...]) -> None:
    for stream in (sys.stdout, sys.stderr, *streams):
        try:
            stream.flush()
        except BaseException:
            continue


def _stream(descriptor: int, mode: str, errors: str) -> Any:
    return open(descriptor, mode, encoding="utf-8", errors=errors, closefd=False)


def _exit_record(error: SystemExit, mode: str) -> dict[str, Any]:
    if mode == "calls":
        return {"end": "error", "error": describe(error), "memory": False}
    code = error.code
    if code is None or code == 0:
        return {"end": "ok"}
    return {"end": "error", "error": f"SystemExit: {code}", "memory": False}


def describe(error: BaseException) -> str:
    """``Type: message``, whatever the exception's own methods do; at most 500 characters."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"[:500]
    except BaseException:
        return name
