"""Described events as lines for people, in the words of ``cilium-dbg monitor``.

Names come from users' objects: control characters are taken out here (CVE-2025-48056).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from axoneme.core.text import clean

Described = Mapping[str, Any]

ICMP: Final = (1, 58)


def line(event: Described, *, numeric: bool = False) -> tuple[str, str | None]:
    """(text, colour) of what :meth:`Names.describe` or a loss notice holds."""
    if "lost" in event:
        return clean(f"!! {event['lost']} events lost ({event.get('where', '')})"), "yellow"
    makers = {"drop": _drop, "trace": _trace, "policy-verdict": _verdict, "agent": _agent}
    text, colour = makers.get(str(event.get("type")), _other)(event, numeric)
    moment = datetime.fromtimestamp(float(event.get("time") or 0)).astimezone()
    node = f"[{event['node']}] " if event.get("node") else ""
    known = event.get("id") and event.get("type") in ("drop", "policy-verdict")
    id = f", id {event['id']}" if known else ""
    return clean(f"{moment:%H:%M:%S.%f} {node}{text}{id}"), colour


def _drop(event: Described, numeric: bool) -> tuple[str, str | None]:
    return (
        f"xx drop ({event['text']}{_rule(event, numeric)}) {_where(event, numeric)}, "
        f"{_device(event)}"
        f"identity {_identities(event, numeric)}: {_flow(event, numeric)}",
        "red",
    )


def _trace(event: Described, numeric: bool) -> tuple[str, str | None]:
    point = str(event["text"])
    arrow = "<-" if point.startswith("from-") else "->"
    what = point.removeprefix("from-").removeprefix("to-")
    if what == "endpoint":
        what = _endpoint(event, numeric)
    return (
        f"{arrow} {what}, identity {_identities(event, numeric)} state {event['ct_state']}, "
        f"{_device(event)}{_flow(event, numeric)}",
        None,
    )


def _verdict(event: Described, numeric: bool) -> tuple[str, str | None]:
    allowed = event.get("verdict") == "allowed"
    side = "source" if event["direction"] == "ingress" else "destination"
    remote = _identity(event[side], numeric)
    return (
        f"Policy verdict log: local {_endpoint(event, numeric)}, remote {remote}, "
        f"{event['direction']}, action {'allow' if allowed else 'deny'}, "
        f"match {event.get('match') or 'none'}{_rule(event, numeric)}, {_flow(event, numeric)}",
        "green" if allowed else "red",
    )


def _agent(event: Described, numeric: bool) -> tuple[str, str | None]:
    data = "".join(f", {key} {value}" for key, value in (event.get("data") or {}).items())
    return f">> {event['text']}{data}", "cyan"


def _other(event: Described, numeric: bool) -> tuple[str, str | None]:
    data = "".join(f", {key} {value}" for key, value in (event.get("data") or {}).items())
    text = f" ({event['text']})" if event.get("text") else ""
    flow = f": {_flow(event, numeric)}" if event["source"]["address"] else ""
    return f"** {event['type']}{text} {_where(event, numeric)}{data}{flow}", "cyan"


def _rule(event: Described, numeric: bool) -> str:
    """Which policy rule decided, where one did."""
    if not event.get("cookie"):
        return ""
    return f", rule {(not numeric and event.get('rule')) or event['cookie']}"


def _where(event: Described, numeric: bool) -> str:
    word = "to" if event["direction"] == "ingress" else "from"
    return f"{word} {_endpoint(event, numeric)}"


def _endpoint(event: Described, numeric: bool) -> str:
    found = event["endpoint"]
    if not found["id"]:
        return "no endpoint"
    name = f" {found['name']}" if found["name"] and not numeric else ""
    return f"endpoint {found['id']}{name}"


def _device(event: Described) -> str:
    found = event["interface"]
    return f"ifindex {found['name'] or found['index']}, " if found["index"] else ""


def _identity(side: Described, numeric: bool) -> str:
    if side["identity_name"] and not numeric:
        return f"{side['identity']} ({side['identity_name']})"
    return str(side["identity"])


def _identities(event: Described, numeric: bool) -> str:
    source = _identity(event["source"], numeric)
    return f"{source} -> {_identity(event['destination'], numeric)}"


def _flow(event: Described, numeric: bool) -> str:
    source, destination = event["source"], event["destination"]
    if not source["address"]:
        return f"{event['summary']}, {event['length']} bytes"
    ports = event["protocol"] not in ICMP  # there they hold the identifier
    sides = [_side(x, numeric, ports=ports) for x in (source, destination)]
    return f"{sides[0]} -> {sides[1]} {event['summary']}"


def _side(side: Described, numeric: bool, *, ports: bool) -> str:
    address = side["address"]
    port = f":{side['port']}" if side["port"] and ports else ""
    if numeric or not side["name"]:
        return f"[{address}]{port}" if port and ":" in address else f"{address}{port}"
    return f"{side['name']}{port} ({address})"
