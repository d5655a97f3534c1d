"""Label selectors of Kubernetes and Cilium as :class:`Selector`."""

from __future__ import annotations

import re
from typing import Final

from axoneme.core.model.labels import ANY, K8S, NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, RESERVED
from axoneme.core.model.policy import Operator, Requirement, Selector
from axoneme.plugins.policy.decode.fields import Node

NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Kubernetes sets it on every namespace to the namespace's name."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_SOURCE = re.compile(r"[a-z0-9-]{1,32}")

IN_SOME_NAMESPACE: Final = Requirement(K8S, NAMESPACE_KEY, Operator.EXISTS)


def in_namespace(namespace: str) -> Requirement:
    """The term that confines a selector to the pods of one namespace."""
    return Requirement(K8S, NAMESPACE_KEY, Operator.IN, (namespace,))


def selector(*requirements: Requirement) -> Selector:
    """A selector whose terms are sorted and unique, so that equal ones are equal."""
    return Selector(tuple(sorted(set(requirements))))


def kubernetes_terms(node: Node) -> list[Requirement]:
    """The terms of a pod selector of a NetworkPolicy: keys have no source, all are ``k8s``."""
    return _terms(node, prefixed=False)


def cilium_terms(node: Node) -> list[Requirement]:
    """The terms of a selector of Cilium: ``source:key``, any source when none is named."""
    return [_namespace_name(r) for r in _terms(node, prefixed=True)]


def namespace_terms(node: Node) -> list[Requirement]:
    """The terms of a namespace selector.

    They hold for pods only: ``NotIn`` and ``DoesNotExist`` would else match the outside world,
    which has no namespace and so none of its labels.
    """
    terms = [
        _namespace_name(Requirement(K8S, f"{NAMESPACE_LABEL_PREFIX}.{r.key}", r.operator, r.values))
        for r in kubernetes_terms(node)
    ]
    return [*terms, IN_SOME_NAMESPACE]


def names_namespace(terms: list[Requirement]) -> bool:
    """Whether the terms say themselves which namespaces they are about."""
    return any(
        r.source in (K8S, ANY)
        and (r.key == NAMESPACE_KEY or r.key.startswith(f"{NAMESPACE_LABEL_PREFIX}."))
        for r in terms
    )


def names_reserved(terms: list[Requirement]) -> bool:
    """Whether the terms demand a reserved label. Its absence confines nothing (CVE-2023-41333)."""
    return any(r.source == RESERVED and r.operator in (Operator.IN, Operator.EXISTS) for r in terms)


def _namespace_name(term: Requirement) -> Requirement:
    """The name of a namespace as a label of the namespace is the namespace of the pod."""
    if term.source in (K8S, ANY) and term.key == f"{NAMESPACE_LABEL_PREFIX}.{NAME_LABEL}":
        return Requirement(K8S, NAMESPACE_KEY, term.operator, term.values)
    return term


def _terms(node: Node, *, prefixed: bool) -> list[Requirement]:
    node.mapping("matchLabels", "matchExpressions")
    terms: list[Requirement] = []
    labels = node.get("matchLabels")
    if labels.present:
        for key in labels.mapping():
            value = labels.get(key)
            source, name = _key(value, key, prefixed=prefixed)
            # Absent is null here, which Kubernetes reads as no text.
            text = _value(value, source) if value.present else ""
            terms.append(Requirement(source, name, Operator.IN, (text,)))
    for item in node.get("matchExpressions").items():
        terms.append(_expression(item, prefixed=prefixed))
    return terms


def _expression(item: Node, *, prefixed: bool) -> Requirement:
    item.mapping("key", "operator", "values")
    key = item.get("key")
    if not key.present:
        raise key.error("is required")
    source, name = _key(key, key.text(), prefixed=prefixed)
    operator = Operator(item.get("operator").choice(*(str(o.value) for o in Operator)))
    values = item.get("values")
    none = not values.present or values.value is None
    listed = () if none else tuple(_value(v, source) for v in values.items())
    if operator in (Operator.IN, Operator.NOT_IN) and not listed:
        raise values.error(f"operator {operator} needs values")
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and listed:
        raise values.error(f"operator {operator} takes no values")
    return Requirement(source, name, operator, tuple(sorted(set(listed))))


def _key(node: Node, key: str, *, prefixed: bool) -> tuple[str, str]:
    source, name = K8S, key
    if prefixed:
        head, colon, tail = key.partition(":")
        source, name = (head, tail) if colon else (ANY, key)
        if colon and not _SOURCE.fullmatch(source):
            raise node.error(f"{key!r} has no valid label source before the colon")
    if source not in (K8S, ANY, RESERVED):
        if not 0 < len(name) <= 512:  # cidr, node and the like: their keys are their own
            raise node.error(f"{key!r} is not a label key")
        return source, name
    prefix, slash, short = name.rpartition("/")
    if not _NAME.fullmatch(short) and not _is_namespace_label(name):
        raise node.error(f"{key!r} is not a label key")
    if slash and not _PREFIX.fullmatch(prefix):
        raise node.error(f"{key!r} is not a label key")
    return source, name


def _is_namespace_label(name: str) -> bool:
    """A namespace's label may be longer than a label of its own: it carries our prefix."""
    inner = name.removeprefix(f"{NAMESPACE_LABEL_PREFIX}.")
    return inner != name and _NAME.fullmatch(inner.rpartition("/")[2]) is not None


def _value(node: Node, source: str) -> str:
    value = node.text(most=512)
    if source in (K8S, ANY, RESERVED) and value and not _NAME.fullmatch(value):
        raise node.error(f"{value[:80]!r} is not a label value")
    return value
