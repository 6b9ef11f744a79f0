"""What a program can see and reach: nothing of this machine but an interpreter and its own scratch folder."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.sandbox import Call, Execution, Limits, Program, Sandbox, from_literal, to_literal

Run = Callable[..., Execution]
REPOSITORY = Path(__file__).parents[2]


def value(execution: Execution) -> Any:
    """The value that the only call returned."""
    assert execution.status == "finished", execution
    assert execution.outputs[0].value is not None, execution
    return from_literal(to_literal(execution.outputs[0].value))


@pytest.fixture
def server() -> Iterator[tuple[int, str, list[str]]]:
    """A real server on 127.0.0.1 and on an abstract socket: port, name, and who has called."""
    callers: list[str] = []
    tcp = socket.create_server(("127.0.0.1", 0))
    name = f"codellm-dag-test-{os.getpid()}"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(f"\0{name}")
    unix.listen()

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            callers.append(str(listener.family))
            connection.close()

    for listener in (tcp, unix):
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    yield tcp.getsockname()[1], name, callers
    for listener in (tcp, unix):
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_local_servers_cannot_be_reached(run: Run, server: tuple[int, str, list[str]]) -> None:
    port, name, callers = server
    socket.create_connection(("127.0.0.1", port)).close()  # the control: from outside it can
    source = """
    import socket
    def f(port, name):
        said = []
        for family, address in [
            (socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET, ("10.0.0.1", 80)),
            (socket.AF_INET6, ("::1", port)), (socket.AF_UNIX, chr(0) + name),
            (socket.AF_NETLINK, (0, 0)), (socket.AF_VSOCK, (2, port)), (socket.AF_PACKET, ("lo", 0)),
        ]:
            try:
                connection = socket.socket(family)
                connection.settimeout(2)
                connection.connect(address)
                said.append("connected")
            except OSError as error:
                said.append(type(error).__name__)
        return said
    """
    said = value(run(source, str(port), repr(name)))
    assert said == ["PermissionError"] * 3 + ["ConnectionRefusedError"] + ["PermissionError"] * 3
    assert len(callers) == 1


def test_home_store_and_repository_cannot_be_read(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "manifest.json"
    secret.write_text("secret of the store")
    site = Path(pytest.__file__).parent / "__init__.py"
    here = ("/proc", "/sys", "/etc/passwd", "/root", "/home", "/var", "/run", "/bin", "/dev/shm", "/dev/tty")
    paths = [*map(str, (secret, Path.home(), REPOSITORY, Path(__file__), site)), *here]
    source = """
    import os
    def f(paths):
        found = []
        for path in paths:
            for reach in (lambda: open(path).read(), lambda: os.listdir(path)):
                try:
                    reach()
                    found.append(path)
                except OSError: pass
        return found
    """
    assert value(run(source, repr(paths))) == []


def test_only_the_interpreter_is_visible(run: Run) -> None:
    source = """
    import os
    def f():
        files = [os.path.join(folder, name) for folder, _, names in os.walk("/") for name in names]
        top = sorted(set(path.split("/")[1] for path in files))
        words = ("site-packages", "dist-packages", "codellm")
        extra = [path for path in files if any(word in path for word in words)]
        return top, extra, sorted(os.listdir("/dev")), os.listdir("/harness")
    """
    top, extra, devices, harness = value(run(source))
    assert set(top) <= {"dev", "lib", "lib64", "python", "usr"}
    assert extra == []
    assert devices == ["null", "urandom", "zero"]
    assert harness == []


def test_environment_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Sandbox(workers=1) as sandbox:
        source = "import os\ndef f(): return sorted(os.environ), os.uname().nodename"
        execution = sandbox.run_one(Program(source, (Call("f"),)))
    names, host = value(execution)
    assert "AWS_SECRET_ACCESS_KEY" not in names
    assert set(names) <= {
        "HOME", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE",
        "PYTHONHASHSEED", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONSAFEPATH", "PYTHONUTF8", "TMPDIR", "TZ",
    }  # fmt: skip
    assert host == "sandbox"


def test_only_scratch_can_be_written(run: Run) -> None:
    source = """
    import os
    def f():
        written = []
        for folder, _, names in os.walk("/"):
            for path in [os.path.join(folder, "new"), *(os.path.join(folder, name) for name in names[:5])]:
                if folder == "/dev": continue
                try:
                    with open(path, "ab"): written.append(path)
                except OSError: pass
        for change in (
            lambda: os.chmod("/python", 0o777), lambda: os.mkdir("/new"), lambda: os.rmdir("/scratch"),
            lambda: os.symlink("/", "/usr/new"), lambda: os.rename("/python", "/snake"),
        ):
            try:
                change()
                written.append("changed")
            except OSError: pass
        return written
    """
    assert value(run(source)) == ["/scratch/new"]


def test_scratch_is_bounded(run: Run) -> None:
    source = """
    import os
    def fill(name, size):
        total = 0
        try:
            with open(name, "wb", buffering=0) as file:
                while total < 1 << 30:
                    total += file.write(b"x" * size)
        except OSError as error:
            return total, error.strerror
    def f():
        one = fill("a", 1 << 20)
        two = fill("b", 1 << 20)
        os.remove("a"), os.remove("b")
        files = 0
        try:
            while files < 100_000:
                open(str(files), "w").close()
                files += 1
        except OSError: pass
        return one[0] + two[0], files < 5000
    """
    bytes_written, few_files = value(run(source, limits=Limits(disk_bytes=1 << 20)))
    assert 0 < bytes_written <= 1 << 20
    assert few_files


@pytest.mark.parametrize(
    "leave",
    [
        "open('/scratch/a', 'w').write('x')",
        "os.mkdir('locked'); open('locked/b', 'w').write('x'); os.chmod('locked', 0)",
        "for i in range(300):\n        os.mkdir('d'); os.chdir('d')",
        "os.symlink('/python', 'link'); os.mkfifo('fifo')",
        "os.chmod('/scratch', 0); os.utime('/scratch', (1, 1))",
        "os.setxattr('/scratch', 'user.note', b'x')",
    ],
)
def test_scratch_is_new_for_every_program(run: Run, leave: str) -> None:
    run(f"import os\ndef f():\n    {leave}")
    look = """
    import os, stat
    def f():
        found = os.stat("/scratch")
        attributes = os.listxattr("/scratch")
        return os.listdir("/scratch"), stat.S_IMODE(found.st_mode), found.st_mtime > 10, attributes
    """
    assert value(run(look)) == ([], 0o700, True, [])


def test_no_messages_outlive_a_program(run: Run) -> None:
    """System V and POSIX memory, queues, keyrings and unnamed files are refused: nothing can stay there."""
    source = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    def f():
        calls = [
            lambda: libc.shmget(1, 4096, 0o1666), lambda: libc.msgget(1, 0o1666),
            lambda: libc.semget(1, 1, 0o1666),
            lambda: libc.mq_open(b"/q", 0o102, 0o666, None), lambda: libc.memfd_create(b"x", 0),
            lambda: libc.syscall(248, b"user", b"x", b"x", 1, -3) if os.uname().machine == "x86_64" else -1,
        ]
        return [call() for call in calls]
    """
    assert value(run(source)) == [-1] * 6


def test_processes_cannot_be_traced_or_read(run: Run) -> None:
    source = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    def f():
        child = os.fork()
        if child == 0:
            while True: pass
        said = []
        for pid in (1, child):
            said.append(libc.ptrace(16, pid, 0, 0))
            said.append(libc.process_vm_readv(pid, 0, 0, 0, 0, 0))
        said.append(libc.syscall(438, 3, 1, 0))
        said.append(libc.unshare(0x10000000))
        said.append(libc.mount(b"x", b"/scratch", b"tmpfs", 0, None))
        said.append(libc.setns(0, 0))
        os.kill(child, 9)
        return said
    """
    assert value(run(source)) == [-1] * 8


def test_rights_are_gone(run: Run) -> None:
    source = """
    import ctypes, os
    libc = ctypes.CDLL(None)
    def f():
        data = ctypes.create_string_buffer(24)
        libc.capget(ctypes.byref(ctypes.create_string_buffer(bytes.fromhex("2205082000000000"), 8)), data)
        try:
            os.setuid(0)
            root = True
        except OSError:
            root = False
        no_capabilities, no_new_privileges = data.raw == bytes(24), libc.prctl(39, 0, 0, 0, 0)
        seccomp = libc.prctl(21, 0, 0, 0, 0)
        users = os.getresuid(), os.getresgid(), os.getgroups()
        return *users, no_capabilities, root, no_new_privileges, seccomp
    """
    users, groups, others, no_capabilities, root, no_new_privileges, seccomp = value(run(source))
    assert set(users) == {65534}
    assert set(groups) == {65534}
    assert set(others) <= {65534}
    assert no_capabilities
    assert not root
    assert no_new_privileges == 1
    assert seccomp == 2


def test_descriptors_do_not_leak(run: Run) -> None:
    source = """
    import os
    def f():
        found = []
        for number in range(4096):
            try: os.fstat(number)
            except OSError: continue
            found.append(number)
        return found
    """
    assert value(run(source)) == [0, 1, 2, 61]


def test_programs_run_as_an_unprivileged_user_of_this_machine(sandbox: Sandbox) -> None:
    """The kernel does not hold the real root to its limits on processes."""
    import time

    future = sandbox.submit(Program("import time\ntime.sleep(1)\ndef f(): pass", (Call("f"),)))
    (supervisor,) = sandbox.cell_pids()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        if children:
            users = {
                line
                for line in Path(f"/proc/{children[0]}/status").read_text().splitlines()
                if "Uid:" in line
            }
            if not users & {"Uid:\t0\t0\t0\t0"}:
                break
        time.sleep(0.01)
    else:
        pytest.fail("the program was never seen as an unprivileged user")
    assert future.result().status == "finished"
