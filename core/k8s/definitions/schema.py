"""Words for structural schemas (apiextensions.k8s.io/v1), to be read as the tree of fields.

A name that ends in ``*`` is required. What a schema does not name is pruned by the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "integer"}
TRUTH: Final[Schema] = {"type": "boolean"}
WORDS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
"""A map of strings."""
ANY: Final[Schema] = {"x-kubernetes-preserve-unknown-fields": True, "type": "object"}
NUMBER_OR_TEXT: Final[Schema] = {"x-kubernetes-int-or-string": True}


def fields(tree: Mapping[str, Schema], text: str = "") -> Schema:
    """An object."""
    made: Schema = {
        "type": "object",
        "properties": {name.removesuffix("*"): schema for name, schema in tree.items()},
    }
    if required := [name[:-1] for name in tree if name.endswith("*")]:
        made["required"] = required
    return said(made, text)


def many(of: Schema, text: str = "", most: int = 0) -> Schema:
    """A list."""
    made: Schema = {"type": "array", "items": of}
    if most:
        made["maxItems"] = most
    return said(made, text)


def one_of(*words: str) -> Schema:
    """A string out of a few."""
    return {"type": "string", "enum": list(words)}


def between(least: int, most: int) -> Schema:
    """A number."""
    return {"type": "integer", "minimum": least, "maximum": most}


def default(schema: Schema, value: Any) -> Schema:
    """Filled in by the server when it is left out."""
    return {**schema, "default": value}


def said(schema: Schema, text: str) -> Schema:
    """With what ``kubectl explain`` says."""
    return {**schema, "description": text} if text else schema


def ruled(schema: Schema, rule: str, message: str) -> Schema:
    """With a rule of CEL that the server checks."""
    rules = [*schema.get("x-kubernetes-validations", ()), {"rule": rule, "message": message}]
    return {**schema, "x-kubernetes-validations": rules}


def selector() -> Schema:
    """A label selector."""
    expression = fields(
        {
            "key*": TEXT,
            "operator*": one_of("In", "NotIn", "Exists", "DoesNotExist"),
            "values": many(TEXT),
        }
    )
    return fields({"matchLabels": WORDS, "matchExpressions": many(expression)})


def conditions() -> Schema:
    """Of a status (metav1.Condition)."""
    condition = fields(
        {
            "type*": TEXT,
            "status*": one_of("True", "False", "Unknown"),
            "reason": TEXT,
            "message": TEXT,
            "lastTransitionTime": TEXT,
            "observedGeneration": NUMBER,
        }
    )
    made = many(condition)
    return {**made, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
