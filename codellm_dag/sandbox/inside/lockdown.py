"""Takes the rights of a forked child away, for good, before it runs an untrusted program.

In order: resource limits, user and group, capabilities, no_new_privs, a seccomp filter. Every step is checked
and raises OSError, so a child that could not be locked down never runs the program. Namespaces, mounts and
the missing network come from bubblewrap (``confinement.py``, outside). Linux on x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 22, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL, _SECCOMP_MODE_FILTER = 4, 2
_CAPABILITY_VERSION_3 = 0x20080522


def check(result: int, what: str) -> int:
    """`result` of a C call; raises OSError with the errno and `what` when it is negative."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def lock_down(limits: dict[str, Any], uid: int, gid: int, seccomp: Any) -> None:
    """Give up everything. `limits` has the integers cpu (s), memory, disk (bytes), processes, files."""
    _set_limits(limits)
    os.umask(0o077)
    if os.getuid() != uid:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient capabilities")
    check(_libc.capset(_CAP_HEADER, _NO_CAPABILITIES), "capset")
    check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(seccomp), 0, 0), "seccomp")


_CAP_HEADER = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
_NO_CAPABILITIES = bytes(24)


def _set_limits(limits: dict[str, Any]) -> None:
    cpu = limits["cpu"]
    # The supervisor stops the program at the limit; these are the kernel's own stops, a second later.
    wanted = {
        resource.RLIMIT_CPU: (cpu + 1, cpu + 2),
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_NOFILE: limits["files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: 256,
    }
    for kind, value in wanted.items():
        soft, hard = value if isinstance(value, tuple) else (value, value)
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))
