"""On the path of a process, it makes training wait after step ``HOLD_AT`` until it is asked to end.

The file ``HOLD_FILE``, if one is named, tells that it waits. So a test may evict a training that runs,
whatever the machine's speed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_MODULE = "codellm_dag.training.callbacks"


class _Finder:
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        del path, target
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _hold(module)

        loader.exec_module = exec_module
        return spec


def _hold(module: Any) -> None:
    honest = module.SaveWhenDue.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.processes.first and state.global_step == int(os.environ["HOLD_AT"]):
            if told := os.environ.get("HOLD_FILE"):
                Path(told).touch()
            while not self.report.stop_requested():
                time.sleep(0.01)
        honest(self, args, state, control, **kwargs)

    module.SaveWhenDue.on_step_end = on_step_end


if "HOLD_AT" in os.environ:
    sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
