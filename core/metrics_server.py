"""HTTP endpoints of a process: ``/metrics`` for scrapers, ``/healthz`` for probes."""

from __future__ import annotations

from collections.abc import Callable

from axoneme.core.http import Answer, HttpServer
from axoneme.core.metrics import MetricRegistry
from axoneme.core.place_options import split_address


def metrics_server(metrics: MetricRegistry, address: str) -> HttpServer | None:
    """A server of ``/metrics`` on ``IP:PORT`` or ``:PORT``; ``None`` when the address is empty."""
    if not address:
        return None

    async def scrape(headers: dict[str, str]) -> Answer:
        return Answer(metrics.render(), content_type=metrics.content_type)

    host, port = split_address(address)
    return HttpServer(host, port, {"/metrics": scrape})


def health_server(
    port: int,
    problem: Callable[[], str],
    host: str = "127.0.0.1",
    remark: Callable[[], str] = lambda: "",
) -> HttpServer | None:
    """``/healthz`` on loopback: 200, or 503 with what ``problem`` says; ``None`` for port 0.

    ``remark``: what is to be said although all is well.
    """
    if not port:
        return None

    async def healthz(headers: dict[str, str]) -> Answer:
        text = problem()
        if text:
            return Answer(f"{text}\n".encode(), 503)
        return Answer("\n".join(["ok", *filter(None, [remark()]), ""]).encode())

    return HttpServer(host, port, {"/healthz": healthz})
