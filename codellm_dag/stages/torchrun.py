"""torchrun for the pods of one Job: the pod with index 0 hosts the others' meeting, whatever the DNS says.

    python -m codellm_dag.stages.torchrun OPTIONS…        torchrun's own options

torchrun guesses from host names whether it runs where ``--rdzv-endpoint`` points. A pod's own name is often
not in the DNS yet when the pod starts; then the first pod, too, looks for a host, and all give up. A Job
tells each pod its index, so nobody needs to guess.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_INDEX = "JOB_COMPLETION_INDEX"
_CONF = "--rdzv-conf="


def main(arguments: Sequence[str] | None = None) -> None:
    """Run torchrun, told whether this pod is the host."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    from torch.distributed.run import main as torchrun

    torchrun(with_host(given, os.environ[_INDEX]))


def with_host(arguments: Sequence[str], index: str) -> list[str]:
    """`arguments` with ``is_host`` added to their ``--rdzv-conf=``, which must be there."""
    if not any(argument.startswith(_CONF) for argument in arguments):
        raise ValueError(f"torchrun's options must have {_CONF}…")
    host = f",is_host={int(index == '0')}"
    return [argument + host if argument.startswith(_CONF) else argument for argument in arguments]


if __name__ == "__main__":
    main()
