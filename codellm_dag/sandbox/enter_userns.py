"""Run as a script by root: enters a user namespace with two users, then becomes the command given.

``enter_userns.py UID GID COMMAND…`` maps 0 to the caller (so that a Python below /root can be reached) and
65534 to the real, unprivileged UID and GID, as which programs run: the kernel does not hold the real root to
RLIMIT_NPROC. The process then has no right outside its namespace. Only a process of the outer namespace may
write such a map, so a child that stays behind does.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000


def main() -> None:
    """Fork the writer, unshare, wait for the maps, exec the command."""
    uid, gid, *command = sys.argv[1:]
    me = os.getpid()
    unshared_read, unshared_write = os.pipe()
    writer = os.fork()
    if writer == 0:
        os.close(unshared_write)
        if os.read(unshared_read, 1) != b"u":
            os._exit(1)
        Path(f"/proc/{me}/uid_map").write_text(f"0 {os.getuid()} 1\n65534 {uid} 1\n")
        Path(f"/proc/{me}/gid_map").write_text(f"0 {os.getgid()} 1\n65534 {gid} 1\n")
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        sys.exit(f"cannot make a user namespace: {os.strerror(code)}")
    os.write(unshared_write, b"u")
    os.close(unshared_write)
    os.close(unshared_read)
    if os.waitpid(writer, 0)[1] != 0:
        sys.exit("cannot map users into the user namespace")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
