"""Getting artifacts: what a request is, whether it is there, and running it if not."""

from codellm_dag.launch.decision import decide, differences
from codellm_dag.launch.errors import ContactLostError, InvalidRequestError, StageFailedError
from codellm_dag.launch.events import PipesBridge, PipesSink, StageEvent
from codellm_dag.launch.identity import Identity, identify
from codellm_dag.launch.launcher import Ended, InlineLauncher, Job, Launcher
from codellm_dag.launch.local import LocalLauncher
from codellm_dag.launch.materialization import Outcome, materialize
from codellm_dag.launch.remote import Launches, LaunchRecord
from codellm_dag.launch.remote_attempts import RemoteLauncher
from codellm_dag.launch.work import bury_dead

__all__ = [
    "ContactLostError",
    "Ended",
    "Identity",
    "InlineLauncher",
    "InvalidRequestError",
    "Job",
    "LaunchRecord",
    "Launcher",
    "Launches",
    "LocalLauncher",
    "Outcome",
    "PipesBridge",
    "PipesSink",
    "RemoteLauncher",
    "StageEvent",
    "StageFailedError",
    "bury_dead",
    "decide",
    "differences",
    "identify",
    "materialize",
]
