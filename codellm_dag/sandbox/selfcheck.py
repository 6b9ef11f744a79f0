"""The first program of every cell: it tries the walls. A cell in which one does not stand is not used."""

from __future__ import annotations

from codellm_dag.sandbox.decode import parse, to_python
from codellm_dag.sandbox.programs import Call, Execution, Limits, Program

_PROCESSES = 6
_SOURCE = f"""
import ctypes, os, socket, time

def check():
    libc = ctypes.CDLL(None)
    faults = []
    if os.getuid() == 0 or os.geteuid() == 0:
        faults.append("programs run as root: the real user could not be dropped")
    if any(capabilities(libc)):
        faults.append("programs keep capabilities")
    if libc.prctl(39, 0, 0, 0, 0) != 1:
        faults.append("no_new_privs is not set")
    if libc.prctl(21, 0, 0, 0, 0) != 2:
        faults.append("the seccomp filter is not on (the kernel needs CONFIG_SECCOMP_FILTER)")
    if os.path.exists("/proc/self"):
        faults.append("/proc is visible")
    if os.getppid() != 1:
        faults.append("there is no PID namespace (the kernel needs CONFIG_PID_NS)")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.socket(family).close()
            faults.append("network sockets can be made")
        except OSError:
            pass
    for path in ("/x", "/python/x", "/python/bin/x"):
        try:
            open(path, "w").close()
            faults.append(path + " can be written")
        except OSError:
            pass
    if os.listdir("/scratch") != []:
        faults.append("the scratch folder is not empty")
    if forks() >= {_PROCESSES}:
        faults.append("the number of processes is not limited (RLIMIT_NPROC does not bind this user)")
    return faults

def capabilities(libc):
    data = ctypes.create_string_buffer(24)
    libc.capget(ctypes.create_string_buffer(bytes.fromhex("2205082000000000"), 8), data)
    return data.raw

def forks():
    for number in range(2 * {_PROCESSES}):
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        except OSError:
            return number
    return number
"""
PROBE = Program(
    _SOURCE, (Call("check"),), limits=Limits(cpu_seconds=10, wall_seconds=60, processes=_PROCESSES)
)


def faults(execution: Execution) -> list[str]:
    """What the probe found wrong, or why it could not tell; empty if all walls stand."""
    if execution.status != "finished" or not execution.outputs or execution.outputs[0].value is None:
        details = [output.detail for output in execution.outputs]
        return [f"the first program ended with {execution.status}: {execution.detail or details}"]
    return to_python(parse(execution.outputs[0].value))
