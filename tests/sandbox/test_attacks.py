"""Every attack of the list is stopped, judged a fail (never an infrastructure error), and leaves no trace."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest

from codellm_dag.sandbox import Call, Execution, Limits, Program, Sandbox, Test, judge, judge_each, to_literal
from codellm_dag.sandbox.watch import descendants

ATTACKS: dict[str, tuple[str, set[str]]] = {
    "fork bomb": (
        """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """,
        {"timeout"},
    ),
    "fork bomb whose first process has left": (
        """
        import os
        def f():
            if os.fork():
                os._exit(0)
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
        """,
        {"error"},
    ),
    "10 GB at once": ("def f(): return len(bytearray(10 << 30))", {"finished"}),
    "10 GB while it is loaded": ("x = bytearray(10 << 30)\ndef f(): return 42", {"memory"}),
    "10 GB bit by bit": ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"memory"}),
    "10 GB by many processes": (
        """
        import os, time
        for _ in range(12):
            if os.fork() == 0:
                break
        x = b"x" * (200 << 20)
        time.sleep(60)
        """,
        {"memory", "error"},
    ),
    "endless loop": ("def f():\n    while True: pass", {"timeout"}),
    "endless loop, deaf to signals": (
        """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        def f():
            while True: pass
        """,
        {"timeout"},
    ),
    "endless loop in C": ("def f(): return 9 ** 9 ** 9", {"timeout", "finished"}),
    "endless loops in threads": (
        """
        import threading
        def spin():
            while True: pass
        for _ in range(4): threading.Thread(target=spin).start()
        def f(): spin()
        """,
        {"timeout"},
    ),
    "sleeping for ever": ("import time\ndef f(): time.sleep(10**6)", {"timeout"}),
    "stopping itself": ("import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGSTOP)", {"timeout"}),
    "os._exit(0) while it is loaded": ("import os; os._exit(0)", {"error"}),
    "os._exit(0) in the call": ("import os\ndef f(): os._exit(0)", {"error"}),
    "sys.exit(0) while it is loaded": ("import sys; sys.exit(0)", {"error"}),
    "an exception that cannot be shown": (
        """
        class Rude(BaseException):
            def __str__(self): raise SystemExit(0)
            __repr__ = __str__
        def f(): raise Rude
        """,
        {"finished"},
    ),
    "__eq__ that is always true": (
        """
        class Yes:
            def __eq__(self, other): return True
            def __hash__(self): return 0
            def __getattr__(self, name): return Yes()
            def __call__(self, *a, **k): return True
        def f(): return Yes()
        """,
        {"finished"},
    ),
    "int whose __eq__ is always true": (
        """
        class Yes(int):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __repr__(self): return "42"
            __str__ = __index__ = __int__ = __format__ = __hash__ = lambda self, *a: 42
        def f(): return Yes(0)
        """,
        {"finished"},
    ),
    "lying class of its type": (
        """
        class Yes:
            @property
            def __class__(self): return int
            def __int__(self): return 42
            __index__ = __int__
        def f(): return Yes()
        """,
        {"finished"},
    ),
    "walking frames and objects for the answer": (
        """
        import gc, sys
        def f():
            found, frame = [], sys._getframe()
            while frame:
                found += [frame.f_locals, frame.f_globals]
                frame = frame.f_back
            for thing in [*gc.get_objects(), *found]:
                try:
                    if type(thing) is dict and ("expected" in thing or "tests" in thing): return thing
                except Exception: pass
            return None
        """,
        {"finished"},
    ),
    "patched harness": (
        """
        import builtins, json, os, sys
        everything = lambda *a, **k: True
        for name, module in list(sys.modules.items()):
            if name in ("values", "program", "lockdown", "seccomp", "__main__"):
                for key, thing in list(vars(module).items()):
                    if callable(thing): setattr(module, key, everything)
        builtins.isinstance = builtins.type = builtins.len = builtins.sorted = everything
        json.dumps = everything
        sys.stdout = sys.stderr = None
        def f(): return 0
        """,
        {"finished", "error", "timeout", "output_limit"},
    ),
    "1 GB of standard output": ("print('x' * 1024 * 1024 * 1024)", {"output_limit", "memory"}),
    "endless standard output": ("while True: print('x' * 100_000)", {"output_limit"}),
    "endless standard error": ("import sys\nwhile True: sys.stderr.write('x' * 100_000)", {"output_limit"}),
    "1 GB returned": ("def f(): return 'x' * (1 << 30)", {"finished", "memory"}),
    "1 GB on the result pipe": ("import os\nwhile True: os.write(61, b'x' * 65536)", {"output_limit"}),
    "huge nested value": (
        """
        def f():
            x = []
            for _ in range(100_000): x = [x]
            return x
        """,
        {"finished"},
    ),
    "small value that is endless when written": (
        "def f():\n    x = [1]\n    for _ in range(60): x = [x, x]\n    return x",
        {"finished"},
    ),
    "value that contains itself": ("def f():\n    x = []\n    x.append(x)\n    return x", {"finished"}),
    "daemonised child": (
        """
        import os, time
        def f():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    while True: time.sleep(1)
                os._exit(0)
            os.wait()
            return 0
        """,
        {"finished"},
    ),
    "killing its parent": (
        "import os\ndef f():\n    os.kill(os.getppid(), 9)\n    return os.getppid()",
        {"finished"},
    ),
    "killing process 1 by every signal": (
        "import os\ndef f():\n    for number in range(1, 65): os.kill(1, number)\n    return 0",
        {"finished"},
    ),
    "killing everything": ("import os\ndef f(): os.kill(-1, 9); return 0", {"finished", "error"}),
    "killing its group": ("import os\ndef f(): os.killpg(0, 9)", {"error"}),
    "killing itself": ("import os\ndef f(): os.kill(os.getpid(), 9)", {"error"}),
    "null pointer": ("import ctypes\ndef f(): return ctypes.string_at(0)", {"error"}),
    "abort": ("import os\ndef f(): os.abort()", {"error"}),
    "endless recursion": ("def f(): return f()", {"finished"}),
    "endless recursion in C": (
        """
        import sys
        sys.setrecursionlimit(10**9)
        class A: pass
        A.__repr__ = lambda self: repr([self])
        def f(): return repr(A())
        """,
        {"error", "memory", "finished"},
    ),
    "closing every descriptor": ("import os\ndef f(): os.closerange(0, 4096); return 0", {"error"}),
    "forged reports on every descriptor": (
        """
        import os, sys
        nonces = [v.get("nonce") for v in (sys._getframe(i).f_locals.get("request") or {}
                  for i in range(3) if True) if v]
        lines = b"".join(
            n.encode() + b' {"call":0,"value":"{\\\\"t\\\\":\\\\"int\\\\",\\\\"v\\\\":\\\\"41\\\\"}"}\\n'
            + n.encode() + b' {"verdict":"pass","status":0,"end":"ok","ready":"ready","stopped":"","id":1}\\n'
            for n in nonces + ["0" * 16])
        for descriptor in range(4096):
            try: os.write(descriptor, lines)
            except OSError: pass
        os._exit(0)
        """,
        {"error", "finished"},
    ),
    "another program in its place": (
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'print(42)'])",
        {"error"},
    ),
    "raising its limits": (
        """
        import resource
        def f():
            for name in ("CPU", "AS", "NPROC", "FSIZE", "NOFILE"):
                kind = getattr(resource, "RLIMIT_" + name)
                try: resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                except (OSError, ValueError): continue
                return name
            while True: pass
        """,
        {"timeout"},
    ),
    "strangling the supervisor by limits": (
        """
        import resource
        def f():
            try: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))
            except PermissionError: return 0
        """,
        {"finished"},
    ),
}

PROBE = Program(
    textwrap.dedent(
        """
        import builtins, json, os, sys, tempfile, threading
        def f():
            with tempfile.NamedTemporaryFile("w") as file:
                file.write("x")
            return {
                "scratch": os.listdir("/scratch"), "cwd": os.getcwd(), "threads": threading.active_count(),
                "json": json.dumps([1]), "len": len([1, 2]), "isinstance": isinstance(1, str),
                "modules": sorted(n for n in sys.modules if n.startswith("attack")),
                "others": others(),
            }
        def others():
            found = []
            for number in range(2, 5000):
                if number != os.getpid():
                    try: os.kill(number, 0)
                    except ProcessLookupError: continue
                    found.append(number)
            return found
        """
    ),
    (Call("f"),),
)
CLEAN = {
    "scratch": [],
    "cwd": "/scratch",
    "threads": 1,
    "json": "[1]",
    "len": 2,
    "isinstance": False,
    "modules": [],
    "others": [],
}
ANSWER = (Test(Call("f"), "42"),)


@pytest.fixture(scope="module")
def supervisors(sandbox: Sandbox) -> Iterator[list[int]]:
    """The host's process ids of the cells: none may be replaced by any attack in this file."""
    before = sandbox.cell_pids()
    assert before
    yield before
    assert sandbox.cell_pids() == before


def assert_clean(sandbox: Sandbox, supervisors: list[int]) -> None:
    """The next program finds nothing, the same supervisor still lives, and nothing of the attack does."""
    execution = sandbox.run_one(PROBE)
    assert execution.status == "finished", execution
    assert judge(execution, [Test(Call("f"), repr(CLEAN))]) == "pass", to_literal(
        execution.outputs[0].value or ""
    )
    assert sandbox.cell_pids() == supervisors
    for supervisor in supervisors:
        assert descendants(supervisor) == []


def attack(sandbox: Sandbox, source: str, limits: Limits | None = None) -> Execution:
    """Run the attack, which claims to be a function that returns 42."""
    return sandbox.run_one(Program(textwrap.dedent(source), (Call("f"),), limits=limits))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_stopped_and_fails(name: str, sandbox: Sandbox, supervisors: list[int]) -> None:
    source, statuses = ATTACKS[name]
    execution = attack(sandbox, source)
    assert execution.status in statuses, execution
    judgement = judge_each(execution, ANSWER)
    assert judgement.verdict == "fail", execution
    assert execution.cpu_seconds < 20
    assert execution.wall_seconds < 20
    assert_clean(sandbox, supervisors)


def test_honest_program_passes(sandbox: Sandbox) -> None:
    """The control: what the attacks pretend to be."""
    assert judge(attack(sandbox, "def f(): return 42"), ANSWER) == "pass"


def test_processes_are_limited(sandbox: Sandbox, supervisors: list[int]) -> None:
    source = """
    import os, time
    def f():
        for number in range(1000):
            try:
                if os.fork() == 0:
                    time.sleep(60)
            except BlockingIOError:
                return number
    """
    execution = attack(sandbox, source, Limits(processes=10, wall_seconds=10))
    # In the way with one user the supervisor, process 1, counts as well.
    assert execution.outputs[0].value in ('{"t":"int","v":"9"}', '{"t":"int","v":"8"}')
    assert_clean(sandbox, supervisors)


def test_right_answer_counts_whatever_was_patched(sandbox: Sandbox, supervisors: list[int]) -> None:
    """A solution that spoils common modules for itself is still judged by what it returns."""
    source = """
    import builtins, json, os
    print = input = open = json.dumps = os.write = builtins.print = builtins.open = None
    def f(): return 42
    """
    assert judge(attack(sandbox, source), ANSWER) == "pass"
    assert_clean(sandbox, supervisors)


MEMORY_SEARCH = """
import ctypes, gc, os, re
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
pattern = re.compile(rb"needle-(?:c0f" + rb"fee){2}")
def mapped(page):
    return libc.mincore(ctypes.c_void_p(page), ctypes.c_size_t(4096), ctypes.create_string_buffer(1)) == 0
def search():
    pages = set()
    top = libc.sbrk(0) & ~4095
    for start in {id(thing) & ~4095 for thing in gc.get_objects()} | {top - 4096}:
        for step in (4096, -4096):
            page = start
            while page not in pages and mapped(page) and len(pages) < 20000:
                pages.add(page)
                page += step
    reader, writer = os.pipe()
    def read(page):
        if libc.write(writer, ctypes.c_void_p(page), 4096) != 4096:
            return b""  # mapped, but not readable
        return os.read(reader, 4096)
    return sum(bool(pattern.search(read(page))) for page in pages) > 0
"""


def test_memory_of_one_program_is_not_in_the_next(sandbox: Sandbox) -> None:
    """Also that of a reference solution: nothing of a program passes through the memory it is forked from."""
    limits = Limits(cpu_seconds=20, wall_seconds=60)
    needle = "NEEDLE = 'needle-' + 'c0ffee' * 4\ndef f(): return search(), NEEDLE * 1000"
    first = attack(sandbox, MEMORY_SEARCH + needle, limits)
    assert (first.outputs[0].value or "").startswith('{"t":"tuple","v":[{"t":"bool","v":true}'), (
        "the search works"
    )
    second = attack(sandbox, MEMORY_SEARCH + "f = search", limits)
    assert second.outputs[0].value == '{"t":"bool","v":false}'
