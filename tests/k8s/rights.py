"""What the kit lets the launcher do, as (resource, verb)."""

from __future__ import annotations

from tests.k8s.kustomize import KIT, build


def granted() -> set[tuple[str, str]]:
    """The rights of the launcher's Role in the namespace of the stages, without API groups."""
    (role,) = (item for item in build(KIT / "base") if item["kind"] == "Role")
    return {
        (resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
