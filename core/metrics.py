"""Metrics of one process, in Prometheus form.

Names: what Cilium exposes under a name of its own keeps it (``cilium_endpoint_state``), so that
existing dashboards and alerts go on working; what it does not have gets ``axoneme_``. Callers give
the bare name; :data:`CILIUM_NAMES` decides. Cost: a gauge or counter of a known state is best
declared with a function, which runs when a scraper asks and not before. Scrapes run on the loop
that owns the tables, so such functions may read tables.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from axoneme.core.errors import AxonemeError
from axoneme.core.metrics_names import CILIUM_NAMES

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram
    from prometheus_client.core import Metric

log = logging.getLogger(__name__)

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; the default of histograms here, which time control-plane work."""

Samples = Iterable[tuple[Sequence[str], float]]
"""Label values and the number that belongs to them."""


@frozen
class MetricSample:
    """One line of ``axoneme metrics list``."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    type: str


class MetricRegistry:
    """Metrics of one agent or operator; handed to ``axoneme_register_metrics``."""

    def __init__(self, toggles: Iterable[str] = ()) -> None:
        import prometheus_client  # noqa: PLC0415  the CLI imports this module, not the client

        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._client = prometheus_client
        self.registry = prometheus_client.CollectorRegistry(auto_describe=False)
        self._off = {full_name(word[1:]) for word in toggles if word.startswith("-")}
        self._on = {full_name(word[1:]) for word in toggles if word.startswith("+")}
        self._names: set[str] = set()

    def counter(
        self, name: str, help: str, labels: Sequence[str] = (), *, default: bool = True
    ) -> Counter:
        """A counter; its name ends in ``_total``. ``default=False``: only with ``+name``."""
        full, registry = self._claim(name, default)
        return self._client.Counter(full, help, labels, registry=registry)

    def gauge(
        self, name: str, help: str, labels: Sequence[str] = (), *, default: bool = True
    ) -> Gauge:
        """A gauge."""
        full, registry = self._claim(name, default)
        return self._client.Gauge(full, help, labels, registry=registry)

    def histogram(
        self,
        name: str,
        help: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] = BUCKETS,
        default: bool = True,
    ) -> Histogram:
        """A histogram, of seconds unless ``buckets`` say otherwise."""
        full, registry = self._claim(name, default)
        return self._client.Histogram(full, help, labels, buckets=buckets, registry=registry)

    def collect_gauge(
        self,
        name: str,
        help: str,
        labels: Sequence[str],
        read: Callable[[], Samples],
        *,
        default: bool = True,
    ) -> None:
        """A gauge whose samples ``read`` returns when a scraper asks."""
        self._collect(_Collector(name, help, labels, read, "gauge"), default)

    def collect_counter(
        self,
        name: str,
        help: str,
        labels: Sequence[str],
        read: Callable[[], Samples],
        *,
        default: bool = True,
    ) -> None:
        """A counter kept elsewhere, in the kernel say; ``read`` returns its totals."""
        self._collect(_Collector(name, help, labels, read, "counter"), default)

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return self._client.generate_latest(self.registry)

    @property
    def content_type(self) -> str:
        """Of what :meth:`render` returns."""
        return str(self._client.CONTENT_TYPE_LATEST)

    def samples(self, pattern: str = "") -> list[MetricSample]:
        """Current values whose name contains ``pattern``, by name and labels."""
        found = [
            MetricSample(s.name, tuple(sorted(s.labels.items())), float(s.value), metric.type)
            for metric in self.registry.collect()
            for s in metric.samples
            if pattern in s.name
        ]
        return sorted(found, key=lambda sample: (sample.name, sample.labels))

    def names(self) -> list[str]:
        """Full names of what is declared, on or off."""
        return sorted(self._names)

    def _claim(self, name: str, default: bool) -> tuple[str, Any]:
        """The full name, and the registry or ``None`` when the metric is off."""
        full = full_name(name)
        if full in self._names:
            raise AxonemeError(f"metric {full} exists already")
        self._names.add(full)
        on = full in self._on or (default and full not in self._off)
        return full, self.registry if on else None

    def _collect(self, collector: _Collector, default: bool) -> None:
        collector.name, registry = self._claim(collector.name, default)
        if registry is not None:
            registry.register(collector)


class _Collector:
    """Turns a function into a metric; one that fails is left out and logged, never the scrape."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], read: Callable[[], Samples], kind: str
    ) -> None:
        self.name, self._text, self._labels = name, text, tuple(labels)
        self._read, self._kind = read, kind

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        family: Any = CounterMetricFamily if self._kind == "counter" else GaugeMetricFamily
        metric = family(self.name, self._text, labels=self._labels)
        try:
            for values, number in self._read():
                metric.add_metric([str(value) for value in values], number)
        except Exception:
            log.exception("metric failed", extra={"metric": self.name})
        return [metric]


def full_name(name: str) -> str:
    """``endpoint_state`` -> ``cilium_endpoint_state``; full names stay as they are."""
    if name.startswith(("cilium_", "axoneme_", "hubble_")):
        return name
    return f"cilium_{name}" if name in CILIUM_NAMES else f"axoneme_{name}"
