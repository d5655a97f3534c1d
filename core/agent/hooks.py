"""The endpoint manager's view of the plugins: hooks with the agent bound to them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from axoneme.core.errors import AxonemeError
from axoneme.core.model.endpoint import AddressPair, AddressRequest, Endpoint, InterfaceSettings
from axoneme.core.model.labels import LabelSet

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent

log = logging.getLogger(__name__)


class PluginHooks:
    """Calls the hooks of ``hooks/endpoint.py``."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def allocate(self, request: AddressRequest) -> AddressPair:
        """Addresses from the first plugin that has some; an error when none does."""
        pair: AddressPair | None = self._agent.plugins.hook.axoneme_allocate_addresses(
            request=request, agent=self._agent
        )
        if pair is None:
            raise AxonemeError(
                "no plugin gives addresses",
                hint=f"key ipam is {self._agent.config['ipam']}: is its plugin enabled?",
            )
        return pair

    def release(self, addresses: AddressPair, owner: str) -> None:
        """Give addresses back; a plugin that fails never stops a removal."""
        self._tell("axoneme_release_addresses", addresses=addresses, owner=owner)

    def configure(self, endpoint: Endpoint, settings: InterfaceSettings) -> None:
        """Let every plugin change the settings."""
        self._agent.plugins.hook.axoneme_configure_interface(
            endpoint=endpoint, settings=settings, agent=self._agent
        )

    def relabel(self, endpoint: Endpoint, labels: LabelSet) -> LabelSet:
        """Let plugins change the labels, each seeing the result of the one before."""
        for _, function in self._agent.plugins.each("axoneme_label_endpoint"):
            changed = function(endpoint=endpoint, labels=labels, agent=self._agent)
            labels = labels if changed is None else changed
        return labels

    def changed(self, endpoint: Endpoint) -> None:
        """Tell that an endpoint is ready or has changed."""
        self._tell("axoneme_endpoint_changed", endpoint=endpoint)

    def removed(self, endpoint: Endpoint) -> None:
        """Tell that an endpoint is gone."""
        self._tell("axoneme_endpoint_removed", endpoint=endpoint)

    def _tell(self, hook: str, **arguments: object) -> None:
        for name, function in self._agent.plugins.each(hook):
            try:
                function(**arguments, agent=self._agent)
            except Exception:
                log.exception("plugin failed", extra={"plugin": name, "hook": hook})
