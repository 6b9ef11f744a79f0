"""podman with storage, an image and a network of its own. Needs root."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import itertools
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path

PACKAGES = "podman runc catatonit conmon netavark aardvark-dns containernetworking-plugins iptables"
IMAGE = "localhost/bed:1"
_CONF = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    """An engine with its own storage below `folder`, one image and one network; `close` removes them."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("podman") is None:
            raise RuntimeError(f"podman is missing; on Debian: apt-get install {PACKAGES}")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "containers.conf").write_text(_CONF)
        self._options = [
            *("--root", str(folder / "storage"), "--runroot", str(folder / "run")),
            *("--network-config-dir", str(folder / "networks")),
        ]
        self.network = f"bed{os.getpid()}"
        self.subnet = ipaddress.ip_network(f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}.0/24")
        self("import", "-", IMAGE, stdin=_empty_image())
        self("network", "create", "--subnet", str(self.subnet), self.network)
        self._lock = threading.Lock()
        self._addresses: dict[str, str] = {}
        self._hosts = itertools.count(10)

    @property
    def host_address(self) -> str:
        """Where pods reach servers of this machine."""
        return str(self.subnet[1])

    def address(self, hostname: str) -> str:
        """The address of a hostname, the same each time."""
        with self._lock:
            if hostname not in self._addresses:
                self._addresses[hostname] = str(self.subnet[next(self._hosts)])
            return self._addresses[hostname]

    def __call__(self, *words: str, stdin: bytes = b"", check: bool = True) -> str:
        """Run ``podman WORDS``. Raises RuntimeError with what it printed if it fails."""
        # Into files: the containers' monitors inherit these ends, and a pipe would stay open as long as they.
        with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
            done = subprocess.run(
                ["podman", *self._options, *words],
                input=stdin,
                cwd=self.folder,  # where its monitors leave files
                stdout=printed,
                stderr=said,
                env={**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")},
                check=False,
                timeout=120,
            )
            printed.seek(0)
            said.seek(0)
            if check and done.returncode:
                raise RuntimeError(f"podman {' '.join(words[:2])}: {said.read().decode().strip()}")
            return printed.read().decode()

    def close(self) -> None:
        """Remove pods, network, image and storage."""
        self("pod", "rm", "--all", "--force", "--time", "0", check=False)
        self("network", "rm", "--force", self.network, check=False)
        self("rmi", "--all", "--force", check=False)
        for mounted in (self.folder / "storage" / "overlay", self.folder / "run"):
            with contextlib.suppress(OSError):
                subprocess.run(["umount", str(mounted)], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _empty_image() -> bytes:
    """A root file system of empty folders, and the links that programs expect beside a mounted ``/usr``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("usr", "etc", "proc", "dev", "sys", "root", "run", "home", "var", "tmp", "var/tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name.endswith("tmp") else 0o755
            archive.addfile(folder)
        for name in ("bin", "sbin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(link)
        passwd = b"root:x:0:0:root:/root:/bin/sh\nstage:x:1000:1000::/tmp:/bin/sh\n"
        for name, content in (("etc/passwd", passwd), ("etc/group", b"root:x:0:\nstage:x:1000:\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
