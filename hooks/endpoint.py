"""Hooks of an endpoint's life, from the CNI request to its removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config
    from axoneme.core.endpoints.pods import Namespace, Pod
    from axoneme.core.model.endpoint import AddressPair, AddressRequest, Endpoint, InterfaceSettings
    from axoneme.core.model.labels import LabelSet


@hookspec(firstresult=True)
def axoneme_allocate_addresses(request: AddressRequest, agent: Agent) -> AddressPair | None:
    """Give an endpoint its IPv4 and/or IPv6 address.

    Called on the agent's loop while a CNI ADD is served; must not block. ``None`` means "not
    mine", the next plugin is asked. Raise :class:`axoneme.core.errors.ExhaustedError` when the
    pool is empty, or :class:`axoneme.core.errors.PendingError` when more was asked for: ADD waits
    for it for a few seconds and asks again. An address named in ``request.wanted`` (restore) must
    be returned or refused.
    """


@hookspec
def axoneme_release_addresses(addresses: AddressPair, owner: str, agent: Agent) -> None:
    """Take addresses back. Called after the endpoint's interface is gone; idempotent."""


@hookspec
def axoneme_configure_interface(
    endpoint: Endpoint, settings: InterfaceSettings, agent: Agent
) -> None:
    """Change the interface settings (MTU, routes, sysctls) before the pod's link is made."""


@hookspec
def axoneme_label_pod(
    pod: Pod, namespace: Namespace, labels: LabelSet, config: Config
) -> LabelSet | None:
    """Give or change the identity labels of a pod, by what its objects say and nothing else.

    Of the pod there are namespace, labels, annotations and service account, which pods alike share;
    its name, node and ports are left empty.
    Called by agents, and by the operator if it makes identities (``identity-management-mode``),
    each plugin seeing the result of the one before: the answer must be the same everywhere.
    ``None`` leaves the labels as they are. No I/O.
    """


@hookspec
def axoneme_label_endpoint(endpoint: Endpoint, labels: LabelSet, agent: Agent) -> LabelSet | None:
    """Give or change the identity labels of an endpoint.

    Called, each plugin seeing the result of the one before, whenever the pod's labels, its
    namespace's labels or its annotations change, after ``axoneme_label_pod``. ``None`` leaves the
    labels as they are. An agent whose identities the operator makes does not start with it.
    """


@hookspec
def axoneme_endpoint_changed(endpoint: Endpoint, agent: Agent) -> None:
    """Hear that an endpoint is ready or has changed. No I/O: note it in a table."""


@hookspec
def axoneme_endpoint_removed(endpoint: Endpoint, agent: Agent) -> None:
    """Hear that an endpoint is gone, after its interface and its map entries are."""
