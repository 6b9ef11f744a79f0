"""The console script over the toy graph: ``python tests/cli/toy_demo.py demo …``.

A run takes seconds; its stages run in processes of their own and Dagster runs the job, as they do for real.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "lineage"), str(Path(__file__).parents[2])]

if __name__ == "__main__":
    from toy_life_cycle import STAGES

    from codellm_dag.cli import job, main
    from codellm_dag.recipes import presets
    from codellm_dag.stages import registry

    registry.STAGES = STAGES
    presets._FOLDER = Path(__file__).parent / "presets"
    job.DEFINITIONS = "toy_definitions"
    main()
