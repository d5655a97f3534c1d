"""What an endpoint's object says of its policy."""

from __future__ import annotations

from typing import Any

from axoneme.plugins.policy.audit import AuditMode
from axoneme.plugins.policy.engine import PolicyEngine


class EnforcementStatus:
    """:class:`axoneme.core.endpoints.objects.PolicyStatus`, from the engine."""

    def __init__(self, engine: PolicyEngine, audit: AuditMode) -> None:
        self._engine = engine
        self.audits = audit.audits

    def status_of(self, identity: int) -> dict[str, Any]:
        """The ``policy`` part of a CiliumEndpoint's status."""
        words = {True: "enforcing", False: "non-enforcing"}
        pair = zip(("ingress", "egress"), self._engine.enforced(identity), strict=True)
        return {way: {"enforcing": on, "state": words[on]} for way, on in pair}
