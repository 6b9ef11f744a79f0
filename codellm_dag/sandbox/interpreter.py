"""Which files the sandboxed interpreter needs: the binary, its standard library, its shared objects.

Nothing else of the Python installation is shown to programs: no site-packages, of a virtual environment or
of the base installation. Found once a process by asking a fresh, isolated interpreter what it loads.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from codellm_dag.sandbox.errors import SandboxUnavailableError

PREFIX = "/python"
LIBRARIES = "/python/shared"

_PROBE = r"""
import ctypes, importlib, json, os, sys, sysconfig
folder = os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload")
names = sorted(name.split(".")[0] for name in (os.listdir(folder) if os.path.isdir(folder) else ()))
for name in names:
    if not name.startswith(("_test", "_ctypes_test", "_xx", "xx", "_tkinter")):
        try:
            importlib.import_module(name)
        except Exception:
            pass
try:
    ctypes.CDLL("libgcc_s.so.1")
except OSError:
    pass

class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]

found = []
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
def note(info, size, data):
    found.append(os.fsdecode(info.contents.name or b""))
    return 0
ctypes.CDLL(None).dl_iterate_phdr(Callback(note), None)
print(json.dumps({
    "binary": os.path.realpath(sys.executable),
    "stdlib": os.path.realpath(sysconfig.get_path("stdlib")),
    "platlibdir": sys.platlibdir,
    "objects": [name for name in found if os.path.isfile(name)],
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """Files of the base interpreter on this machine and where they belong in the sandbox."""

    binary: Path
    stdlib: Path
    platlibdir: str
    loader: Path | None
    """The dynamic loader at the path the binary asks for; None for a static binary."""
    objects: dict[str, Path]
    """Shared objects outside the standard library by the name they are looked up with."""

    @property
    def version(self) -> str:
        """E.g. ``python3.11``: the name of the standard library's folder."""
        return f"python{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def inside_binary(self) -> str:
        """Path of the interpreter in the sandbox."""
        return f"{PREFIX}/bin/{self.version}"

    @property
    def inside_stdlib(self) -> str:
        """Path of the standard library in the sandbox."""
        return f"{PREFIX}/{self.platlibdir}/{self.version}"


@functools.cache
def find_interpreter() -> Interpreter:
    """The base interpreter of this process. Raises SandboxUnavailableError if it cannot be examined."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    command = [python, "-I", "-S", "-B", "-c", _PROBE]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise SandboxUnavailableError(
            f"{python} cannot say which files it needs: {done.stderr.strip()[-300:]}; "
            "the sandbox needs a working CPython with ctypes"
        )
    facts = json.loads(done.stdout)
    stdlib = Path(facts["stdlib"])
    objects = {}
    for name in facts["objects"]:
        path = Path(name)
        if not path.resolve().is_relative_to(stdlib):
            objects[path.name] = path.resolve()
    binary = Path(facts["binary"])
    return Interpreter(binary, stdlib, facts["platlibdir"], _loader(binary), objects)


def _loader(binary: Path) -> Path | None:
    """PT_INTERP of a 64-bit little-endian ELF file."""
    data = binary.open("rb").read(65_536)
    if data[:6] != b"\x7fELF\x02\x01":
        raise SandboxUnavailableError(
            f"the sandbox needs a 64-bit little-endian ELF Python, {binary} is none"
        )
    table = int.from_bytes(data[32:40], "little")
    size, count = int.from_bytes(data[54:56], "little"), int.from_bytes(data[56:58], "little")
    for at in range(table, table + size * count, size):
        if int.from_bytes(data[at : at + 4], "little") == 3:
            start = int.from_bytes(data[at + 8 : at + 16], "little")
            length = int.from_bytes(data[at + 32 : at + 40], "little")
            return Path(data[start : start + length].rstrip(b"\0").decode())
    return None
