"""Logging, status, metrics and the small HTTP server."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from axoneme.core import log as log_module
from axoneme.core.errors import AxonemeError
from axoneme.core.http import Answer, HttpServer
from axoneme.core.metrics import MetricRegistry, full_name
from axoneme.core.status import Health, StatusReport
from axoneme.core.text import Secret, clean, nearest


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """A stream that holds what is logged; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:], root.level = handlers, level
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


def test_json_lines_hold_event_level_logger_and_extra(logged: io.StringIO) -> None:
    """Away from a terminal each record is one JSON object with its extra fields."""
    log_module.setup(stream=logged)
    logging.getLogger("axoneme.x").info("endpoint added", extra={"endpoint": 7})
    line = json.loads(logged.getvalue())
    assert line["event"] == "endpoint added" and line["endpoint"] == 7
    assert line["level"] == "info" and line["logger"] == "axoneme.x" and line["timestamp"]


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_secrets_do_not_show(logged: io.StringIO, fmt: str) -> None:
    """Secret values, and fields named like secrets, are redacted, nested ones too."""
    log_module.setup(fmt=fmt, stream=logged)
    logging.getLogger("x").info(
        "start", extra={"a": Secret("hunter1"), "api_token": "hunter2", "d": {"k": Secret("h3")}}
    )
    text = logged.getvalue()
    assert "hunter" not in text and "h3" not in text and "<redacted>" in text


def test_control_characters_are_stripped_from_text(logged: io.StringIO) -> None:
    """An escape sequence in a field does not reach the terminal."""
    log_module.setup(fmt="text", stream=logged)
    logging.getLogger("x").info("pod %s", "evil\x1b[2J\x9b", extra={"pod": "a\x1b]0;x"})
    assert "\x1b" not in logged.getvalue() and "\x9b" not in logged.getvalue()


def test_exceptions_keep_their_lines(logged: io.StringIO) -> None:
    """A traceback is part of the JSON object."""
    log_module.setup(stream=logged)
    try:
        raise ValueError("oops")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError: oops" in json.loads(logged.getvalue())["exception"]


def test_clean_replaces_what_a_terminal_obeys() -> None:
    """C0, C1, DEL and bidirectional overrides are replaced; other letters of the world stay."""
    assert clean("a\x1b[31mb\x7f\x9b\u202ec") == "a?[31mb???c"
    assert clean("größe 日本") == "größe 日本"


def test_a_secret_shows_only_when_asked() -> None:
    """repr, str and format hide the value, reveal gives it."""
    secret = Secret("x")
    assert f"{secret} {secret!r}" == "<redacted> <redacted>" and secret.reveal() == "x"


def test_nearest_finds_a_slip_and_nothing_else() -> None:
    """A typing error finds its name; nonsense finds none."""
    assert nearest("enable-ipv7", ["enable-ipv4", "mtu"]) == "enable-ipv4"
    assert nearest("zzz", ["enable-ipv4", "mtu"]) is None


def test_status_lines_have_a_fixed_order_and_the_worst_health_wins() -> None:
    """Lines come in the documented order, own labels last; a failure outranks a warning."""
    report = StatusReport()
    report.line("My plugin", "fine")
    report.line("Routing", "Network: Tunnel [vxlan]")
    report.line("IPAM", "IPv4: 1/254")
    assert [label for label, _ in report.lines] == ["IPAM", "Routing", "My plugin"]
    assert report.health is Health.OK
    report.component("a", "Warning", "w")
    report.component("b", Health.FAILURE, "f")
    report.component("c", "Disabled")
    assert report.health is Health.FAILURE
    assert [c.name for c in report.problems] == ["b", "a"]
    assert StatusReport.from_dict(report.as_dict()).as_dict() == report.as_dict()


def test_metric_names_of_cilium_keep_its_prefix() -> None:
    """Names that Cilium documents get ``cilium_``, all others ``axoneme_``."""
    assert full_name("endpoint_state") == "cilium_endpoint_state"
    assert full_name("drop_count_total") == "cilium_drop_count_total"
    assert full_name("plugin_hooks") == "axoneme_plugin_hooks"


def test_metrics_render_and_are_read_when_asked() -> None:
    """A collecting function runs at the scrape; a failing one leaves the others alone."""
    registry = MetricRegistry()
    calls: list[int] = []

    def read() -> list[tuple[list[str], float]]:
        calls.append(1)
        return [(["ready"], 3)]

    def bad() -> list[tuple[list[str], float]]:
        raise KeyError("x")

    registry.collect_gauge("endpoint_state", "endpoints", ["endpoint_state"], read)
    registry.collect_counter("drop_count_total", "drops", ["reason"], lambda: [(["a"], 2)])
    registry.collect_gauge("broken", "broken", [], bad)
    registry.counter("runs_total", "runs").inc()
    assert calls == []
    text = registry.render().decode()
    assert 'cilium_endpoint_state{endpoint_state="ready"} 3.0' in text
    assert 'cilium_drop_count_total{reason="a"} 2.0' in text
    assert "axoneme_runs_total 1.0" in text and "_created" not in text
    assert registry.samples("drop")[0].labels == (("reason", "a"),)
    with pytest.raises(AxonemeError, match="exists already"):
        registry.gauge("endpoint_state", "again")


def test_metrics_can_be_switched_off_and_on() -> None:
    """``-name`` silences a default metric, ``+name`` shows one that is off by default."""
    registry = MetricRegistry(["-cilium_endpoint", "+extra"])
    registry.gauge("endpoint", "x").set(1)
    registry.gauge("extra", "x", default=False).set(1)
    registry.gauge("hidden", "x", default=False).set(1)
    text = registry.render().decode()
    assert "axoneme_extra 1.0" in text and "endpoint" not in text and "hidden" not in text


def fetch(url: str, method: str = "GET", data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body."""
    request = urllib.request.Request(url, method=method, data=data)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_http_answers_get_and_refuses_the_rest() -> None:
    """Known paths answer, unknown are 404, other methods 405, a failing handler is a 500."""

    async def good(headers: dict[str, str]) -> Answer:
        return Answer(b"fine\n")

    async def bad(headers: dict[str, str]) -> Answer:
        raise RuntimeError("oops")

    async def main() -> list[Any]:
        server = HttpServer("127.0.0.1", 0, {"/healthz": good, "/bad": bad})
        await server.start()
        base = f"http://127.0.0.1:{server.port}"
        try:
            return [
                await asyncio.to_thread(fetch, base + "/healthz?x=1"),
                await asyncio.to_thread(fetch, base + "/none"),
                await asyncio.to_thread(fetch, base + "/bad"),
                await asyncio.to_thread(fetch, base + "/healthz", "POST", b"x"),
                await asyncio.to_thread(fetch, base + "/" + "x" * 20000),
            ]
        finally:
            await server.stop()

    found = asyncio.run(main())
    assert found[0] == (200, b"fine\n")
    assert [status for status, _ in found] == [200, 404, 500, 405, 400]
