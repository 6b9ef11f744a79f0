"""API errors as the `Status` objects that clients see, worded like the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.cluster.bed.resources import Object, Resource

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """A request that is answered with a failure `Status`."""

    def __init__(
        self, code: int, message: str, reason: str = "", details: Object | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or REASONS.get(code, "InternalError"),
            "details": {**(details or {}), **({"retryAfterSeconds": retry_after} if retry_after else {})},
            "code": code,
        }


def _details(resource: Resource, name: str, **more: Any) -> Object:
    return {"name": name, "group": resource.group, "kind": resource.plural, **more}


def not_found(resource: Resource, name: str) -> ApiError:
    """404."""
    return ApiError(404, f'{resource.title} "{name}" not found', details=_details(resource, name))


def already_exists(resource: Resource, name: str, being_deleted: bool = False) -> ApiError:
    """409 on create; the real one also says when the old object is on its way out."""
    message = f'{resource.title} "{name}" already exists'
    if being_deleted:
        message = f"object is being deleted: {message}"
    return ApiError(409, message, "AlreadyExists", _details(resource, name))


def conflict(resource: Resource, name: str, why: str = "") -> ApiError:
    """409 on an update with a stale resourceVersion, or a failed precondition."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {resource.title} "{name}": {why}'
    return ApiError(409, message, "Conflict", _details(resource, name))


def invalid(resource: Resource, name: str, causes: Sequence[tuple[str, str, str]]) -> ApiError:
    """422 with causes: (field, reason, message)."""
    texts = [f"{field}: {message}" for field, _, message in causes]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = _details(
        resource,
        name,
        kind=resource.kind,
        causes=[{"reason": reason, "message": message, "field": field} for field, reason, message in causes],
    )
    return ApiError(422, f'{kind} "{name}" is invalid: {joined}', details=details)


def expired(asked: int, oldest: int) -> ApiError:
    """410: the history that a watch or a continued list needs is gone."""
    return ApiError(410, f"too old resource version: {asked} ({oldest})")
