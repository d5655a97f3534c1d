"""Scenarios as data: what is applied, who then reaches whom, and what that needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml
from attrs import Factory, define, field, frozen

ALLOWED: Final = "allowed"
DENIED: Final = "denied"
REFUSED: Final = "refused"
"""An answer that says no: a reset, ICMP unreachable, a DNS refusal."""


@frozen
class Check:
    """An attempt from a place to a place, and what is to come of it.

    Places: ``client``, ``client2``, ``echo-same``, ``echo-other`` (pods), ``host-a``, ``host-b``
    (nodes), ``svc:NAME`` (its cluster IP), ``outside``; ``nodeport-a``, ``nodeport-b`` a node's
    address for node ports. ``lookup`` is a name to be asked of ``target`` by DNS.
    """

    source: str
    target: str
    port: int = 8080
    proto: str = "tcp"
    expect: str = ALLOWED
    families: tuple[int, ...] = (4, 6)
    lookup: str = ""

    def __str__(self) -> str:
        what = f"DNS {self.lookup}" if self.lookup else self.proto
        where = self.target if self.proto == "icmp" else f"{self.target}:{self.port}"
        return f"{self.source} → {where} ({what})"


@frozen
class Scenario:
    """``manifests`` are applied, then all ``checks`` must hold, then they are removed.

    ``needs``: ``two-nodes``, ``outside``, ``from-outside``, or a key with its value
    (``enable-host-firewall=true``); what a world lacks makes it skipped.
    """

    name: str
    theme: str
    summary: str
    checks: tuple[Check, ...]
    manifests: str = ""
    needs: tuple[str, ...] = ()

    def documents(self) -> list[Mapping[str, Any]]:
        """The objects to apply."""
        return [body for body in yaml.safe_load_all(self.manifests) if body]


@define
class Attempt:
    """A check in one family, with what came of it."""

    check: Check
    family: int
    verdict: str = ""
    reason: str = ""

    @property
    def good(self) -> bool:
        """It came as expected; whoever expects a denial is content with a refusal."""
        if self.check.expect == DENIED:
            return self.verdict in (DENIED, REFUSED)
        return self.verdict == self.check.expect

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        said = f"expected {self.check.expect}, was {self.verdict or 'not tried'}{why}"
        return f"IPv{self.family} {self.check}: {said}"


@define
class Outcome:
    """What became of a scenario: ``passed``, ``failed`` or ``skipped``."""

    scenario: Scenario
    state: str = "passed"
    seconds: float = 0.0
    attempts: int = 0
    problems: list[str] = field(default=Factory(list))


@frozen
class Facts:
    """What a world is and has."""

    name: str
    families: tuple[int, ...]
    nodes: tuple[str, ...]
    outside: bool
    from_outside: bool
    keys: Mapping[str, str]

    def lacks(self, scenario: Scenario) -> str:
        """Why a scenario cannot be tried here, or nothing."""
        for need in scenario.needs:
            key, equals, value = need.partition("=")
            if equals:
                found = str(self.keys.get(key, "")).lower()
                if found != value:
                    return f"{key} is {found or 'not set'}"
            elif need == "two-nodes" and len(self.nodes) < 2:
                return "one node only"
            elif need == "outside" and not self.outside:
                return "no address outside is known (--external)"
            elif need == "from-outside" and not self.from_outside:
                return "nobody outside can be asked to connect"
        families = {f for check in scenario.checks for f in check.families}
        if not families & set(self.families):
            return f"no IPv{min(families)}"
        return ""
