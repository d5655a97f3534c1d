"""Who makes CiliumIdentities: key ``identity-management-mode``, and what follows from it.

=========  ======  =========  ==========================================================
Mode       Agents  Operator   Use
=========  ======  =========  ==========================================================
agent      make    collects   the default
both       make    makes too  on the way from one mode to the other
operator   wait    makes      many nodes: agents need no right to write identities
=========  ======  =========  ==========================================================

Source: Cilium documentation, "Identity management mode".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from axoneme.core.config import Config
from axoneme.core.errors import ConfigError
from axoneme.core.identities.follower import IdentityFollower
from axoneme.core.identities.maker import IdentityMaker
from axoneme.core.model.identity import Identity
from axoneme.core.state import Table
from axoneme.core.store.model import Store

KEY: Final = "identity-management-mode"
OPERATOR: Final = "operator"
BOTH: Final = "both"


def operator_makes(config: Config) -> bool:
    """Whether the operator makes identities for pods."""
    return config.text(KEY) in (OPERATOR, BOTH)


def numbers_of_agent(
    config: Config, labelling: Iterable[str], store: Store, table: Table[int, Identity]
) -> IdentityMaker | IdentityFollower:
    """An agent's source of numbers.

    ``labelling`` names the plugins that give labels to endpoints on this node:
    :class:`ConfigError` when there are some and the operator makes the identities.
    """
    if config.text(KEY) != OPERATOR:
        return IdentityMaker(store, table, cluster_id=config.number("cluster-id"))
    if names := sorted(labelling):
        raise ConfigError(
            f"{KEY}: operator: the labels that {', '.join(names)} gives to endpoints of a node"
            " are not known to the operator",
            hint="the plugin can use hook axoneme_label_pod; or set the mode to both",
        )
    return IdentityFollower(table, store.away)
