"""What the API answers about policy: plain data for the command line and for scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from axoneme.core.errors import ApiError
from axoneme.core.model.endpoint import Endpoint
from axoneme.core.state import Table
from axoneme.core.state.registry import plain
from axoneme.plugins.policy.counters import Counted, Counters, StatValue
from axoneme.plugins.policy.entries import ANY_PEER, INGRESS, Entries
from axoneme.plugins.policy.manager import PolicyManager
from axoneme.plugins.policy.texts import peer_text, rule_row

WAIT_SECONDS: Final = 60.0
MAX_WAIT: Final = 600.0
WAIT_STEP: Final = 0.05

NONE: Final = StatValue(0, 0)


class PolicyViews:
    """Bound to one agent's manager and endpoints."""

    def __init__(
        self,
        manager: PolicyManager,
        endpoints: Table[int, Endpoint],
        counters: Callable[[], Counters] | None = None,
    ) -> None:
        self._manager = manager
        self._endpoints = endpoints
        self._counters = counters

    async def get(self, params: dict[str, Any]) -> dict[str, Any]:
        """``policy.get``: revision, policies and their rules; ``name`` filters ``ns/name``."""
        name = str(params.get("name") or "")
        tables = self._manager.tables
        rows = [
            r
            for r in tables.policies
            if not name or name in (r.key.name, f"{r.key.namespace}/{r.key.name}")
        ]
        if name and not rows:
            raise ApiError(f"no policy {name!r}", code="not-found")
        rules = {c: (k, r) for c, k, r in self._manager.engine.rules()}
        return {
            "revision": self._manager.revision,
            "policies": [
                {
                    "kind": row.key.kind,
                    "namespace": row.key.namespace,
                    "name": row.key.name,
                    "valid": row.valid,
                    "in_force": row.in_force.value,
                    "message": row.message,
                    "rules": [
                        plain(rule_row(cookie, rule))
                        for cookie, (key, rule) in rules.items()
                        if key == row.key
                    ],
                }
                for row in rows
            ],
        }

    async def rule(self, params: dict[str, Any]) -> Any:
        """``policy.rule``: the rule behind the ``cookie`` of an entry or an event."""
        cookie = _number(params, "cookie")
        if cookie == 0:
            return {"cookie": 0, "origin": "default: nothing enforced, or the node's own traffic"}
        rule = self._manager.engine.rule(cookie)
        if rule is None:
            raise ApiError(f"no rule has cookie {cookie} now", code="not-found")
        return plain(rule_row(cookie, rule))

    async def selectors(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """``policy.selectors``: every selector with its users and the identities it matches.

        ``labels`` are those of the policies that use it: ``Kind namespace/name``. With ``subjects``
        only selectors of subjects.
        """
        cache = self._manager.engine.selectors
        users_of = self._manager.engine.selector_users(subjects=bool(params.get("subjects")))
        found = []
        for handle in cache.handles():
            peer, users, _ = cache.describe(handle) or (None, 0, 0)
            if peer is not None and (handle in users_of or not params.get("subjects")):
                identities = sorted(cache.matched(handle))
                objects = sorted({str(key) for key in users_of.get(handle, ())})
                found.append(
                    {
                        "selector": peer_text(peer),
                        "labels": objects,
                        "users": users,
                        "identities": identities,
                    }
                )
        return found

    async def wait(self, params: dict[str, Any]) -> dict[str, Any]:
        """``policy.wait``: return once ``revision`` is in the kernel, or ``seconds`` are over."""
        wanted, seconds = _number(params, "revision"), params.get("seconds", WAIT_SECONDS)
        if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_WAIT:
            raise ApiError(f"seconds must be from 0 to {MAX_WAIT:.0f}", code="bad-request")
        try:
            async with asyncio.timeout(seconds):
                while self._manager.revision < wanted:  # noqa: ASYNC110  # seldom asked
                    await asyncio.sleep(WAIT_STEP)
                await self._manager.realised()
        except TimeoutError:
            raise ApiError(
                f"revision {wanted} is not in force after {seconds:g} s",
                code="timeout",
                hint=f"the policy is at revision {self._manager.revision}",
            ) from None
        return {"revision": self._manager.revision}

    async def entries(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """``bpf.policy``: entries as the kernel holds them, for one ``endpoint`` or for all.

        ``packets`` and ``bytes`` are ``None`` without ``policy-accounting``.
        """
        wanted = params.get("endpoint")
        identities = (
            [self._endpoint(str(wanted)).identity]
            if wanted not in (None, "")
            else sorted(self._manager.engine.subjects())
        )
        counters = await asyncio.to_thread(self._counters) if self._counters else None
        found = []
        for identity in identities:
            entries = await asyncio.to_thread(self._manager.maps.read, identity)
            found.append(
                {
                    "identity": identity,
                    "labels": self._labels(identity),
                    "endpoints": [e.name for e in self._endpoints.find("identity", identity)],
                    "loaded": entries is not None,
                    "entries": self._entry_rows(identity, entries or {}, counters),
                }
            )
        return found

    def _entry_rows(
        self, identity: int, entries: Entries, counters: Counters | None
    ) -> list[dict[str, Any]]:
        rows = []
        for key, value in sorted(entries.items(), key=lambda e: (e[0].direction, e[0])):
            rule = self._manager.engine.rule(value.cookie)
            count = None
            if counters is not None:
                count = counters.get(Counted(identity, key, value.cookie), NONE)
            rows.append(
                {
                    "policy": "Deny" if value.deny else "Allow",
                    "direction": "Ingress" if key.direction == INGRESS else "Egress",
                    "identity": key.peer,
                    "labels": ["ANY"] if key.peer == ANY_PEER else self._labels(key.peer),
                    "port": str(key.l4),
                    "proxy_port": value.proxy_port,
                    "bytes": count and count.bytes,
                    "packets": count and count.packets,
                    "precedence": value.precedence,
                    "prefix": value.prefix_len,
                    "cookie": value.cookie,
                    "rule": str(rule.origin) if rule else "",
                }
            )
        return rows

    def _labels(self, identity: int) -> list[str]:
        labels = self._manager.engine.selectors.labels(identity)
        return labels.texts() if labels else [f"identity {identity}"]

    def _endpoint(self, name: str) -> Endpoint:
        for row in self._endpoints:
            if name in (str(row.id), row.name, row.pod):
                return row
        raise ApiError(f"no endpoint {name!r}", code="not-found")


def _number(params: dict[str, Any], name: str) -> int:
    value = params.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ApiError(f"{name} must be a number", code="bad-request")
    return value
