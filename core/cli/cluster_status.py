"""``axoneme status`` of a cluster, in the shape of ``cilium status``."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import attrs

from axoneme.core.errors import AxonemeError, StoreError

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output
    from axoneme.core.cluster.connect import Place
    from axoneme.core.cluster.status import ClusterStatus
    from axoneme.core.k8s.store import KubernetesStore


def show(
    place: Place, output: Output, *, wait: bool, seconds: float, ignore_warnings: bool = True
) -> int:
    """Print it; 1 when something is wrong, also after ``seconds`` of waiting."""

    async def work(store: KubernetesStore) -> ClusterStatus:
        from axoneme.core.cluster.status import gather

        end, told = time.monotonic() + seconds, ""
        while True:
            try:
                found = await gather(store, place.namespace)
                if not wait or found.ready or time.monotonic() > end:
                    return found
                text = "; ".join(t for _, _, t in [*found.errors, *found.warnings]) or "starting"
            except StoreError as error:
                if not wait or time.monotonic() > end:
                    raise
                text = str(error)
            if text != told:
                sys.stderr.write(f"waiting: {text}\n")
                told = text
            await asyncio.sleep(1)

    found = place.run(work)
    output.emit(attrs.asdict(found), lambda: _print(found, output))
    bad = not found.ready or (bool(found.warnings) and not ignore_warnings)
    if bad and wait:
        raise AxonemeError(f"not ready after {seconds:.0f} s")
    return 1 if bad else 0


def _print(found: ClusterStatus, output: Output) -> None:
    from axoneme.core.cluster.status import AGENT, OPERATOR

    for label, name in (("Axoneme", AGENT), ("Operator", OPERATOR)):
        state = found.state(name)
        colour = "green" if state == "OK" else None if state == "disabled" else "red"
        output.line(f"{label + ':':<20}{state}", colour)
    output.line()
    for w in found.workloads:
        counts = f"Desired: {w.desired}, Ready: {w.ready}/{w.desired}"
        output.line(f"{w.kind:<23}{w.name:<19}{counts}, Available: {w.available}/{w.desired}")
    heading = "Containers:"
    for name, phases in found.phases.items():
        text = ", ".join(f"{phase}: {count}" for phase, count in sorted(phases.items()))
        output.line(f"{heading:<23}{name:<19}{text}")
        heading = ""
    output.line(f"{'Cluster Pods:':<23}{found.managed}/{found.pods} managed by Axoneme")
    if found.chart:
        output.line(f"{'Helm chart version:':<23}{found.chart.removeprefix('axoneme-')}")
    heading = "Image versions"
    for name, images in found.images.items():
        for image, count in sorted(images.items()):
            output.line(f"{heading:<23}{name:<19}{image}: {count}")
            heading = ""
    _rows(output, "Errors:", found.errors, "red")
    _rows(output, "Warnings:", found.warnings, "yellow")


def _rows(output: Output, heading: str, rows: list[tuple[str, str, str]], colour: str) -> None:
    for number, (component, name, text) in enumerate(rows):
        label = "" if number else heading
        output.line(f"{label:<23}{component:<19}{name:<19}{text}", colour)
