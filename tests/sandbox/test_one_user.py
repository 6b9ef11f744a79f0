"""The attack and isolation tests again as an ordinary user, when the tests run as root.

An ordinary user has no second user to give to programs: supervisor and programs are the same one, and
capabilities, the PID namespace and seccomp keep them apart. Python and the repository may lie where only root
can go, so they are bound elsewhere in a mount namespace of the child's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
USER = 1_999_999_999
AS_USER = r"""
import ctypes, os, sys
user, folder, prefix, site, repository, *tests = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result != 0:
        sys.exit("cannot: " + os.strerror(ctypes.get_errno()))
check(libc.unshare(0x00020000))
check(libc.mount(b"none", b"/", None, 0x44000, None))
for name, source in (("python", prefix), ("site", site), ("repository", repository)):
    os.mkdir(folder + "/" + name)
    check(libc.mount(source.encode(), (folder + "/" + name).encode(), None, 4096, None))
os.setgroups([])
os.setresgid(int(user), int(user), int(user))
os.setresuid(int(user), int(user), int(user))
os.chdir(folder + "/repository")
code = f"import sys; sys.path[:0] = [{folder!r} + '/repository', {folder!r} + '/site']; import pytest; "
code += f"sys.exit(pytest.main(['-q', '-x', '-p', 'no:cacheprovider', '-p', 'no:xdist', *{tests!r}]))"
python = f"{folder}/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
environment = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "LD_LIBRARY_PATH": folder + "/python/lib"}
environment |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder + "/tmp"}
os.mkdir(folder + "/tmp")
os.execve(python, [python, "-s", "-c", code], environment)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0, reason="not root: the other tests have already run as an ordinary user"
)
def test_ordinary_user_is_as_safe() -> None:
    with tempfile.TemporaryDirectory(prefix="codellm-one-user-") as folder:
        os.chmod(folder, 0o777)  # noqa: PTH101
        arguments = [
            str(USER),
            folder,
            sys.base_prefix,
            str(Path(pytest.__file__).parents[1]),
            str(HERE.parents[1]),
        ]
        tests = [f"tests/sandbox/{name}.py" for name in ("test_attacks", "test_isolation")]
        done = subprocess.run(
            [sys.executable, "-c", AS_USER, *arguments, *tests],
            check=False, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if "cannot: Operation not permitted" in done.stderr:
            pytest.skip("this root may not make mount namespaces")
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
