"""Which of a pod's labels make its identity: Cilium's default filter and the ``labels`` option.

A rule is a pattern on the label's key, anchored at its start, optionally with a source and with
``!`` in front to leave labels out. The longest match decides; on equal length inclusion wins.
Once the user names one pattern to include, only what some pattern includes is in.
Source of the default list: Cilium documentation, "Limiting identity-relevant labels".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from attrs import frozen

from axoneme.core.errors import ConfigError
from axoneme.core.model.labels import (
    CLUSTER_KEY,
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    RESERVED,
    SERVICE_ACCOUNT_KEY,
    Label,
    LabelSet,
)

MAX_PATTERN: Final = 512

_INCLUDE: Final = (
    re.escape(NAMESPACE_KEY),
    re.escape(NAMESPACE_LABEL_PREFIX),
    r"app\.kubernetes\.io",
    re.escape(CLUSTER_KEY),
    re.escape(SERVICE_ACCOUNT_KEY),
)
_EXCLUDE: Final = (
    r"io\.kubernetes",
    r"kubernetes\.io",
    r"statefulset\.kubernetes\.io/pod-name",
    r"apps\.kubernetes\.io/pod-index",
    r"batch\.kubernetes\.io/job-completion-index",
    r"batch\.kubernetes\.io/controller-uid",
    r".*beta\.kubernetes\.io",
    r"k8s\.io",
    r"pod-template-generation",
    r"pod-template-hash",
    r"controller-revision-hash",
    r"controller-uid",
    r"annotation.*",
    r"etcd_node",
    r"topology\.kubernetes\.io",
)


@frozen
class LabelRule:
    """One pattern; ``source`` empty means any source."""

    pattern: re.Pattern[str]
    include: bool
    source: str = ""

    @classmethod
    def parse(cls, text: str) -> LabelRule:
        """Read ``[!][source:]regex``; :class:`ConfigError` when it is not a pattern."""
        include = not text.startswith("!")
        body = text.removeprefix("!")
        source, colon, pattern = body.partition(":")
        if not colon or not re.fullmatch(r"[a-z0-9]*", source):
            source, pattern = "", body
        if len(pattern) > MAX_PATTERN:
            raise ConfigError(
                f"labels: pattern of {len(pattern)} characters, at most {MAX_PATTERN}"
            )
        try:
            return cls(re.compile(pattern), include, source)
        except re.error as error:
            raise ConfigError(f"labels: {text!r} is not a pattern: {error}") from None

    def length(self, label: Label) -> int:
        """Characters of the label's key that this rule covers; -1 if it does not apply."""
        if self.source and self.source != label.source:
            return -1
        match = self.pattern.match(label.key)
        return match.end() if match else -1


@frozen
class LabelFilter:
    """A list of rules. ``exclusive``: what no rule includes is left out."""

    rules: tuple[LabelRule, ...]
    exclusive: bool = False

    @classmethod
    def from_option(cls, texts: Iterable[str] = ()) -> LabelFilter:
        """The default rules, followed by those of the ``labels`` option."""
        rules = [LabelRule(re.compile(".*"), True, RESERVED)]
        rules += [LabelRule(re.compile(p), True) for p in _INCLUDE]
        rules += [LabelRule(re.compile(p), False) for p in _EXCLUDE]
        own = [LabelRule.parse(t) for t in texts if t]
        return cls((*rules, *own), exclusive=any(r.include for r in own))

    @classmethod
    def of_nodes(cls, texts: Iterable[str] = ()) -> LabelFilter:
        """Every label of a node, or those that the ``node-labels`` option says."""
        own = [LabelRule.parse(t) for t in texts if t]
        return cls(tuple(own), exclusive=any(r.include for r in own))

    def keeps(self, label: Label) -> bool:
        """Whether ``label`` is part of the identity."""
        included = max((r.length(label) for r in self.rules if r.include), default=-1)
        excluded = max((r.length(label) for r in self.rules if not r.include), default=-1)
        if included < 0 and excluded < 0:
            return not self.exclusive
        return included >= excluded

    def apply(self, labels: LabelSet) -> LabelSet:
        """The identity-relevant part of ``labels``."""
        return LabelSet.of(x for x in labels if self.keeps(x))
