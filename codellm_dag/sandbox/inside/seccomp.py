"""A small seccomp filter, written by hand: what no honest program needs and what widens the kernel's surface.

Allowed by default; refused with EPERM: what reaches into other processes, what makes or enters namespaces and
mounts, sockets of any family but AF_UNIX, memory and messages that outlive a process (System V, POSIX queues,
keyrings, memfd), io_uring, bpf, perf, userfaultfd, kernel administration, and changes to the limits or the
priority of other processes. ``clone3`` answers ENOSYS, so that the C library falls back to ``clone``, whose
flags can be seen. A foreign architecture (32-bit calls) kills the process.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENT_0 = 0, 4, 16
_AF_UNIX = 1
_X32_BIT = 0x40000000
# All of CLONE_NEW… but NEWTIME (0x80), which for clone lies in the byte of the exit signal.
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Call → number on x86_64 and aarch64 (None: the call does not exist there).
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
    "syslog": (103, 116),
    "acct": (163, 89),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "personality": (135, 92),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
}
_SOCKET, _SOCKETPAIR, _PRLIMIT, _CLONE, _CLONE3 = (41, 198), (53, 199), (302, 261), (56, 220), (435, 435)


class UnsupportedMachineError(OSError):
    """The filter has no system-call numbers for this machine's architecture."""


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | number)


def instructions(machine: str | None = None) -> bytes:
    """The filter as BPF byte code for `machine` (default: this one).

    Raises UnsupportedMachineError unless it is x86_64 or aarch64.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        known = " and ".join(sorted(_ARCHITECTURES))
        raise UnsupportedMachineError(errno.ENOSYS, f"no seccomp filter for {machine!r}, only for {known}")
    column = list(_ARCHITECTURES).index(machine)
    body = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _ARCHITECTURES[machine], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        body += [_instruction(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1), _instruction(_RETURN, _KILL)]
    body += [_instruction(_JUMP_EQUAL, _CLONE3[column], 0, 1), _refuse(errno.ENOSYS)]
    # Each block below looks at the low half of the first argument and puts the call's number back.
    for call in (_SOCKET, _SOCKETPAIR):
        body += _on_argument(call[column], _instruction(_JUMP_EQUAL, _AF_UNIX, 1, 0))
    body += _on_argument(_PRLIMIT[column], _instruction(_JUMP_EQUAL, 0, 1, 0))
    body += _on_argument(_CLONE[column], _instruction(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1))
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            body += [_instruction(_JUMP_EQUAL, number, 0, 1), _refuse(errno.EPERM)]
    body.append(_instruction(_RETURN, _ALLOW))
    return b"".join(body)


def _on_argument(number: int, test: bytes) -> list[bytes]:
    """If the call is `number`: EPERM unless `test` of its first argument skips that."""
    return [
        _instruction(_JUMP_EQUAL, number, 0, 4),
        _instruction(_LOAD, _ARGUMENT_0),
        test,
        _refuse(errno.EPERM),
        _instruction(_LOAD, _NUMBER),
    ]


def build() -> ctypes.Structure:
    """The filter as the structure that ``prctl(PR_SET_SECCOMP)`` takes; it keeps its byte code alive.

    Raises UnsupportedMachineError unless the machine is x86_64 or aarch64.
    """
    code = instructions()
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    program.keep_alive = buffer  # type: ignore[attr-defined]
    return program
