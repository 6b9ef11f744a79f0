"""What can go wrong with a store, in words for the person who asked; nothing here ever prints a secret."""

from __future__ import annotations


class StoreError(RuntimeError):
    """The store cannot do what was asked; the message names the place, the cause and the next step."""


class InvalidStoreURLError(ValueError):
    """A store address that cannot be used; the message names what is allowed."""


class InvalidOutputError(ValueError):
    """A stage wrote something that an artifact must not hold (a pickle, a link, nothing at all)."""


class CanonicalError(TypeError):
    """A value has no canonical JSON form; the message names where it stands and its type."""
