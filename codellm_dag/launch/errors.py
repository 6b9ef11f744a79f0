"""What can go wrong when an artifact is asked for."""

from __future__ import annotations

from codellm_dag.store.manifest import Label


class InvalidRequestError(ValueError):
    """Stage, recipe or inputs do not fit together; raised before anything is launched."""


class ContactLostError(RuntimeError):
    """A remote attempt goes on, but this process can no longer see how it is doing."""


class StageFailedError(RuntimeError):
    """An attempt failed, and either must not be repeated or was repeated often enough.

    ``label`` is the ledger's label, ``log_tail`` the last lines the stage printed.
    """

    def __init__(
        self,
        message: str,
        *,
        label: Label,
        stage: str,
        asset: str,
        partition: str | None,
        attempt: str,
        log_tail: str,
    ) -> None:
        super().__init__(message)
        self.label: Label = label
        self.stage = stage
        self.asset = asset
        self.partition = partition
        self.attempt = attempt
        self.log_tail = log_tail
