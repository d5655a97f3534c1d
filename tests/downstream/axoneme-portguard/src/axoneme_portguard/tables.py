"""The plugin's table: the ports that ought to be guarded."""

from __future__ import annotations

from attrs import frozen

PROTOCOLS = {"TCP": 6, "UDP": 17}


@frozen
class GuardedPort:
    """Row of table ``portguard``. Key: port and protocol."""

    port: int
    protocol: str

    @property
    def key(self) -> tuple[int, str]:
        """What tells two rows apart."""
        return (self.port, self.protocol)
