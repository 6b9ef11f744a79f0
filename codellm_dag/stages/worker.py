"""What the processes of a group other than rank 0 do: the same work, unheard.

They end with 0 once rank 0 has told how the stage ended, whatever it told: one failure has one exit code. A
rank that fails itself leaves its reason for rank 0 and ends with 1.
"""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from codellm_dag.stages.group import Board
from codellm_dag.stages.messages import CallChannel, open_session
from codellm_dag.stages.protocol import Stopped
from codellm_dag.stages.reporting import StageReport
from codellm_dag.stages.request import StageRequest
from codellm_dag.stages.running import Surroundings, call_stage, is_distributed, prepare


def run_worker(request: StageRequest, around: Surroundings) -> bool:
    """Take part in the stage if it is distributed, then wait for rank 0; False if this rank failed."""
    board = Board(around.group)
    try:
        _take_part(request, around, board)
    except Stopped:
        pass  # as rank 0 has, which tells
    except BaseException as error:
        traceback.print_exc()
        board.tell(error)
        return False
    return board.wait_for_end()


def _take_part(request: StageRequest, around: Surroundings, board: Board) -> None:
    prepare(request)
    if not is_distributed(request):
        return
    around.wait_until_ready(board.has_ended)
    session = open_session(CallChannel(lambda _: None))
    with tempfile.TemporaryDirectory(prefix="codellm-") as scratch:
        out, resume_dir = Path(scratch, "out"), Path(request.resume_dir or Path(scratch, "resume"))
        out.mkdir()
        resume_dir.mkdir(parents=True, exist_ok=True)
        report = StageReport(session, request.runtime, resume_dir, stop_requested=around.stop_requested)
        call_stage(request, out, report)
