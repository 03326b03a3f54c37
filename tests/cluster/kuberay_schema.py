"""The part of KubeRay's own schema that `configs/cluster/raycluster.yaml` uses, cut out of its resource definition.

    git clone --depth 1 --branch v1.7.0 https://github.com/ray-project/kuberay
    python -m tests.cluster.kuberay_schema kuberay/ray-operator/config/crd/bases/ray.io_rayclusters.yaml v1.7.0

writes `kuberay.json` beside this file. The definition has 900 kB; Kubernetes refuses fields that it does not name, and
so does what is cut out. Run it again when the file gets a field that it had not, or for another version.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import yaml

CUT_OUT = Path(__file__).with_name("kuberay.json")
CLUSTER = Path(__file__).parents[2] / "configs" / "cluster" / "raycluster.yaml"
SOURCE = "https://github.com/ray-project/kuberay/blob/{version}/ray-operator/config/crd/bases/ray.io_rayclusters.yaml"
_RULES = ("type", "required", "enum", "pattern", "minimum", "maximum", "minItems", "maxItems", "maxLength", "anyOf")


def cut(schema: dict[str, Any], value: Any, where: str = "") -> dict[str, Any]:
    """The rules of `schema` for the fields that `value` has. Raises `ValueError` for a field that it does not name."""
    kept = {name: schema[name] for name in _RULES if name in schema and not (name == "type" and "anyOf" in schema)}
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = cut(schema["additionalProperties"], None, where)
    elif isinstance(value, dict):
        if unknown := value.keys() - schema.get("properties", {}).keys() - _free(schema, value):
            raise ValueError(f"{where or 'the resource'} has no {', '.join(sorted(unknown))}")
        kept["properties"] = {
            name: cut(schema["properties"][name], inner, f"{where}.{name}")
            for name, inner in value.items()
            if name in schema.get("properties", {})
        }
        kept["additionalProperties"] = bool(_free(schema, value))
    elif isinstance(value, list):
        items = [cut(schema["items"], inner, f"{where}[]") for inner in value]
        kept["items"] = _merged(items)
    return kept


def _free(schema: dict[str, Any], value: dict[str, Any]) -> set[str]:
    """Names that are free: those of an object without a schema of its own, such as `metadata`."""
    return set() if "properties" in schema else set(value)


def _merged(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema for the items of a list, with the fields of all of them."""
    merged: dict[str, Any] = {}
    for schema in schemas:
        for name, rule in schema.items():
            both = name in merged and isinstance(rule, dict)
            if both and name == "properties":
                merged[name] |= {key: _merged([merged[name].get(key, {}), inner]) for key, inner in rule.items()}
            else:
                merged[name] = _merged([merged[name], rule]) if both else rule
    return merged


def _main(definition: Path, version: str) -> None:
    text = definition.read_bytes()
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = (one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1")
    kept = cut(schema, yaml.safe_load(CLUSTER.read_text()))
    about = {"source": SOURCE.format(version=version), "sha256": hashlib.sha256(text).hexdigest()}
    CUT_OUT.write_text(json.dumps({**about, "schema": kept}, indent=1) + "\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
