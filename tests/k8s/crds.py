"""Custom resources of the kit that no Python package models: the fields we use, checked by hand.

Written after the CustomResourceDefinitions of Kueue 0.19 (v1beta2) and KubeRay (ray.io/v1). A field that
is missing here is an error, so that a misspelt one is, too.
"""

from __future__ import annotations

from typing import Any

TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
QUANTITY = {"anyOf": [NUMBER, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[mkMGTPE])?$"}]}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY = {"type": "object"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "additionalProperties": False,
    }


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


def _kind(api_version: str, kind: str, spec: dict[str, Any], *, namespaced: bool) -> dict[str, Any]:
    metadata = {"name": TEXT, **({"namespace": TEXT} if namespaced else {})}
    return _object(
        {
            "apiVersion": {"const": api_version},
            "kind": {"const": kind},
            "metadata": _object(metadata, {"labels": TEXTS}),
            "spec": spec,
        }
    )


_TOLERATION = _object(
    {}, {"key": TEXT, "operator": {"enum": ["Exists", "Equal"]}, "value": TEXT, "effect": TEXT}
)
_POLICY = {"enum": ["Never", "LowerPriority", "LowerOrNewerEqualPriority"]}
_FLAVOR = _object({"name": TEXT, "resources": _list(_object({"name": TEXT, "nominalQuota": QUANTITY}))})
_RAY_TEMPLATE = _object({"spec": ANY}, {"metadata": ANY})
_RAY_GROUP = {"rayStartParams": TEXTS, "template": _RAY_TEMPLATE}

SCHEMAS: dict[str, dict[str, Any]] = {
    "ResourceFlavor": _kind(
        "kueue.x-k8s.io/v1beta2",
        "ResourceFlavor",
        _object({}, {"nodeLabels": TEXTS, "tolerations": _list(_TOLERATION), "topologyName": TEXT}),
        namespaced=False,
    ),
    "ClusterQueue": _kind(
        "kueue.x-k8s.io/v1beta2",
        "ClusterQueue",
        _object(
            {"resourceGroups": _list(_object({"coveredResources": _list(TEXT), "flavors": _list(_FLAVOR)}))},
            {
                "namespaceSelector": _object({}, {"matchLabels": TEXTS}),
                "queueingStrategy": {"enum": ["StrictFIFO", "BestEffortFIFO"]},
                "preemption": _object({}, {"withinClusterQueue": _POLICY}),
            },
        ),
        namespaced=False,
    ),
    "LocalQueue": _kind(
        "kueue.x-k8s.io/v1beta2", "LocalQueue", _object({"clusterQueue": TEXT}), namespaced=True
    ),
    "RayCluster": _kind(
        "ray.io/v1",
        "RayCluster",
        _object(
            {"headGroupSpec": _object(_RAY_GROUP)},
            {
                "rayVersion": TEXT,
                "workerGroupSpecs": _list(
                    _object(
                        {"groupName": TEXT, "replicas": NUMBER, "minReplicas": NUMBER, "maxReplicas": NUMBER}
                        | _RAY_GROUP
                    )
                ),
            },
        ),
        namespaced=True,
    ),
}
