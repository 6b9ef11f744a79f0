"""What goes wrong with the sandbox itself, never with a program in it."""

from __future__ import annotations


class SandboxError(RuntimeError):
    """Base of the sandbox's own errors."""


class SandboxUnavailableError(SandboxError):
    """This machine cannot confine programs; the message names what is missing and how to enable it."""


class CellLostError(SandboxError):
    """A cell ended or stopped answering through no fault that could be laid on the program in it."""
