"""Labels with a source, as identities and policy selectors use them.

A label is a typed tuple; a pod's user can never write one of another source than ``k8s``
(GO-2022-0959, CVE-2023-39347). Text form: ``source:key=value``, without ``=`` when the value is
empty, as Cilium prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

K8S: Final = "k8s"
RESERVED: Final = "reserved"
CIDR: Final = "cidr"
FQDN: Final = "fqdn"
NODE: Final = "node"
ANY: Final = "any"

NAMESPACE_KEY: Final = "io.kubernetes.pod.namespace"
NAMESPACE_LABEL_PREFIX: Final = "io.cilium.k8s.namespace.labels"
CLUSTER_KEY: Final = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT_KEY: Final = "io.cilium.k8s.policy.serviceaccount"


@frozen(order=True)
class Label:
    """``source:key=value``."""

    source: str
    key: str
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Label:
        """Read the text form; a label without a source is of source ``any``."""
        name, _, value = text.partition("=")
        source, colon, key = name.partition(":")
        return cls(source, key, value) if colon else cls(ANY, name, value)

    def __str__(self) -> str:
        return (
            f"{self.source}:{self.key}={self.value}" if self.value else f"{self.source}:{self.key}"
        )


@frozen
class LabelSet:
    """A sorted, immutable set of labels, at most one per source and key."""

    labels: tuple[Label, ...] = ()

    @classmethod
    def of(cls, labels: Iterable[Label]) -> LabelSet:
        """Sort and deduplicate; of two labels with one source and key the later wins."""
        return cls(tuple(sorted({(x.source, x.key): x for x in labels}.values())))

    @classmethod
    def parse(cls, texts: Iterable[str]) -> LabelSet:
        """Read text forms."""
        return cls.of(Label.parse(t) for t in texts)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def get(self, source: str, key: str) -> str | None:
        """The value of ``key``; source ``any`` finds the first of whatever source."""
        for label in self.labels:
            if label.key == key and source in (ANY, label.source):
                return label.value
        return None

    def key_string(self) -> str:
        """Cilium's allocation key: sorted ``source:key=value;`` with ``=`` always there."""
        return "".join(f"{x.source}:{x.key}={x.value};" for x in self.labels)

    def texts(self) -> list[str]:
        """Text forms, sorted."""
        return [str(x) for x in self.labels]
