"""What plugins add to manifests: kinds of objects, and how policies are read."""

from __future__ import annotations

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject
from axoneme.core.plugins import PluginManager
from axoneme.core.store.kinds import KindRegistry


class Checker:
    """Kinds and policy decoders of all installed plugins, on or off."""

    def __init__(self) -> None:
        self._plugins = PluginManager()
        self._plugins.discover()
        self.kinds = KindRegistry()
        self._plugins.all_hook.axoneme_register_kinds(kinds=self.kinds)

    def check(self, obj: ClusterObject) -> None:
        """Raise :class:`InvalidObjectError` for a policy that no agent could understand.

        A policy that is well-formed but asks for what is not built in passes: the agents say so
        in its status, as they do in a real cluster.
        """
        if obj.key.kind not in self.kinds or not self.kinds.get(obj.key.kind).policy:
            return
        try:
            for rules in self._plugins.all_hook.axoneme_decode_policy(obj=obj):
                list(rules or ())
        except InvalidObjectError as error:
            if type(error) is InvalidObjectError:  # its subtypes are well-formed objects
                raise
