"""Whether two services may have one address. Pure."""

from __future__ import annotations

from axoneme.plugins.lb_ipam.rows import Request

ANY_NAMESPACE = "*"


def why_not(one: Request, other: Request) -> str:
    """Why they may not share; empty if they may. Both have to agree to it."""
    who = "/".join(other.name)
    if not one.sharing_key or one.sharing_key != other.sharing_key:
        return f"{who} has another sharing key"
    if one.problem or other.problem:
        return f"{(one if one.problem else other).name[1]} cannot be read"
    if one.name[0] != other.name[0] and not (_allows(one, other) and _allows(other, one)):
        return f"{who} is in a namespace that is not permitted by both"
    common = one.ports & other.ports
    if common:
        port, protocol = min(common)
        return f"{who} has port {port}/{protocol} too"
    if one.local != other.local:
        return f"{who} has another externalTrafficPolicy"
    if one.local and (one.selector != other.selector or not one.selector):
        return f"{who} selects other pods, with externalTrafficPolicy Local"
    return ""


def _allows(one: Request, other: Request) -> bool:
    return bool(one.namespaces & {ANY_NAMESPACE, other.name[0]})
