"""Which labels make an identity."""

from __future__ import annotations

import pytest

from axoneme.core.errors import ConfigError
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.model.labels import LabelSet


def kept(labels: list[str], option: tuple[str, ...] = ()) -> list[str]:
    return LabelFilter.from_option(option).apply(LabelSet.parse(labels)).texts()


def test_default_drops_what_changes_with_each_rollout() -> None:
    """A rollout's hash must not give each ReplicaSet an identity of its own."""
    found = kept(["k8s:app=web", "k8s:pod-template-hash=abc", "k8s:controller-revision-hash=x"])
    assert found == ["k8s:app=web"]


def test_default_keeps_namespace_labels_and_app_kubernetes_io() -> None:
    """Inclusion with the longer match beats the exclusion of kubernetes.io."""
    labels = [
        "k8s:io.kubernetes.pod.namespace=a",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=a",
        "k8s:app.kubernetes.io/name=web",
        "k8s:io.kubernetes.other=1",
        "k8s:topology.kubernetes.io/zone=z",
        "k8s:apps.kubernetes.io/pod-index=3",
    ]
    assert kept(labels) == sorted(labels[:3])


def test_naming_a_pattern_makes_the_list_exclusive() -> None:
    """With one pattern to include, labels that no pattern includes are out."""
    labels = ["k8s:app=web", "k8s:team=a", "k8s:io.kubernetes.pod.namespace=x"]
    assert kept(labels, ("k8s:team",)) == ["k8s:io.kubernetes.pod.namespace=x", "k8s:team=a"]


def test_excluding_a_pattern_leaves_the_rest() -> None:
    """Patterns to exclude add to the default."""
    assert kept(["k8s:app=web", "k8s:team=a"], ("!team",)) == ["k8s:app=web"]


def test_reserved_labels_always_stay() -> None:
    """Reserved labels are no user's choice."""
    assert kept(["reserved:init", "k8s:app=x"], ("nothing",)) == ["reserved:init"]


def test_bad_pattern_is_a_configuration_error() -> None:
    """The message names the pattern."""
    with pytest.raises(ConfigError, match=r"\(\["):
        LabelFilter.from_option(("([",))
