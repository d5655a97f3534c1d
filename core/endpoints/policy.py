"""What endpoints ask of whoever enforces policy: a service, provided by a plugin or nobody."""

from __future__ import annotations

from typing import Protocol


class PolicyGate(Protocol):
    """Provided by the policy plugin. Without a provider endpoints are ready without policy."""

    def hold(self, identity: int) -> None:
        """Keep the policy of an identity in force that no endpoint has: the node's own."""
        ...

    async def realised(self) -> None:
        """Return once all that is known of identities and rules at the call is in the kernel."""
        ...

    async def wait_for(self, identity: int) -> int:
        """Return once the policy of ``identity`` as it is now is in the kernel.

        The answer is the revision of the policy that is in force. Called before an endpoint of
        that identity may send or receive its first packet.
        """
        ...
