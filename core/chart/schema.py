"""The chart's ``values.schema.json``: values of options by their types, the rest by its shape.

Helm checks values against it before anything is sent to a cluster. A value may always be empty or
null: then its key is not in the ConfigMap. Names of Cilium's chart that nothing answers to are
allowed, so that its users' files keep working; anything else at the top is a typing error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from axoneme.core.chart.keys import COMPOSED
from axoneme.core.config import Option

Schema = dict[str, Any]

CILIUM: Final = Path(__file__).with_name("cilium.txt").read_text().split()
"""Names at the top of Cilium's chart, and Helm's own ``global``."""

PLUGIN: Final[Schema] = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
        "pip": {"type": "string", "pattern": "==", "description": "package==version"},
        "hash": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        "index": {"type": "string", "pattern": "^https?://"},
        "wheel": {
            "type": "object",
            "required": ["configMap", "key"],
            "additionalProperties": False,
            "properties": {
                "configMap": {"type": "string"},
                "key": {"type": "string", "pattern": "\\.whl$"},
            },
        },
        "image": {"type": "string", "pattern": "@sha256:[0-9a-f]{64}$|^[^@]+$"},
        "path": {"type": "string", "pattern": "^/"},
        "values": {"type": "object"},
    },
    "anyOf": [
        {"required": ["image"]},
        {"required": ["pip", "hash"]},
        {"required": ["wheel", "hash"]},
    ],
}


def of_option(option: Option) -> Schema:
    """What a value may be that fills this key."""
    schema: Schema = {"description": f"{option.key}: {option.help}"}
    if option.choices and option.type != "strings":
        return {**schema, "enum": [*option.choices, "", None]}
    match option.type:
        case "bool":
            return {**schema, "enum": [True, False, "true", "false", "", None]}
        case "int" | "float":
            schema["type"] = ["number", "string", "null"]
            if option.min is not None:
                schema["minimum"] = option.min
            if option.max is not None:
                schema["maximum"] = option.max
        case "duration":
            schema["type"] = ["string", "number", "null"]
        case "strings" | "cidrs4" | "cidrs6":
            schema["type"] = ["array", "string", "null"]
        case "json":
            schema["type"] = ["array", "object", "string", "null"]
        case "map":
            schema["type"] = ["object", "string", "null"]
        case _:
            schema["type"] = ["string", "number", "boolean", "null"]
    return schema


def of_value(value: Any) -> Schema:
    """What a value may be that looks like this one."""
    match value:
        case Mapping():
            found = {str(k): of_value(v) for k, v in value.items()}
            return {"type": "object", "properties": found} if found else {"type": "object"}
        case list():
            return {"type": ["array", "null"]}
        case bool():
            return {"type": ["boolean", "null"]}
        case int() | float():
            return {"type": ["number", "string", "null"]}  # counts may be percentages
        case _:
            return {"type": ["string", "number", "boolean", "null"]}


def put(schema: Schema, path: str, leaf: Schema) -> None:
    """Set the schema of the value at a dotted path."""
    *folders, name = path.split(".")
    for folder in folders:
        schema = schema.setdefault("properties", {}).setdefault(folder, {"type": "object"})
    schema.setdefault("properties", {})[name] = leaf


def chart_schema(options: Iterable[Option], values: Mapping[str, Any]) -> str:
    """The file's text, for these options and the chart's own values."""
    schema = of_value(values)
    for option in options:
        if option.helm and option.key not in COMPOSED:
            put(schema, option.helm, of_option(option))
    schema["properties"]["plugins"] = {"type": "array", "items": PLUGIN}
    for name in CILIUM:
        schema["properties"].setdefault(name, {})
    schema["properties"] = dict(sorted(schema["properties"].items()))
    schema["additionalProperties"] = False
    head = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "description": "Made of the declared options: python -m axoneme.core.chart",
    }
    return json.dumps({**head, **schema}, indent=1, ensure_ascii=False) + "\n"
