"""The agent's side: keeps the proxy running and told, and what it learns programmed.

What the proxy is to obey are the rows of table ``l7_policy``; what it learns becomes labels of
addresses, through the service ``PrefixLabels``, for the names that rules ask for (table
``fqdn_peers``). The names are on disk, and back in the ipcache before policy is in force again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.dns_names import peer_matches
from axoneme.core.errors import AxonemeError
from axoneme.core.identities.prefixes import PrefixLabels
from axoneme.core.model.l7 import L7Registry, L7Row
from axoneme.core.model.labels import FQDN, Label
from axoneme.core.model.policy import FqdnPeer
from axoneme.core.state import Table
from axoneme.plugins.fqdn import alive, supervisor
from axoneme.plugins.fqdn.cache import NameCache
from axoneme.plugins.fqdn.config import TRANSPARENT
from axoneme.plugins.fqdn.link import MAX_LINE
from axoneme.plugins.fqdn.ports import PORTS
from axoneme.plugins.fqdn.rules import PROTOCOL, to_plain
from axoneme.plugins.fqdn.sockets import Address

if TYPE_CHECKING:
    from axoneme.core.agent import Agent

log = logging.getLogger(__name__)

SOURCE: Final = "fqdn"
GC_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 0.01
"""Changes of rules within this time go to the proxy together."""

Prefix = IPv4Network | IPv6Network


class FqdnAgent:
    """One per agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        config = agent.config
        self.cache = NameCache(
            limit=config.number("tofqdns-endpoint-max-ip-per-hostname"),
            min_ttl=float(config.number("tofqdns-min-ttl")),
        )
        self.port = 0
        self.connected = False
        self.counts: Counter[str] = Counter()
        self.zombies = 0
        self._agent = agent
        self._folder = agent.state_dir / "fqdn"
        self._labels: dict[Prefix, frozenset[Label]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._dirty = asyncio.Event()
        self._unsaved = False
        self._rows: Table[Any, L7Row] = agent.tables["l7_policy"]
        self._peers: Table[str, FqdnPeer] = agent.tables["fqdn_peers"]
        self._load()
        self._rows.subscribe(lambda _: self._dirty.set())
        self._peers.subscribe(self._peers_changed)
        agent.tables["endpoints"].subscribe(self._endpoints_changed)
        for name, work in (("link", self._keep_link), ("rules", self._tell), ("gc", self._collect)):
            agent.tasks.spawn(f"dns proxy {name}", work)

    def follow_keys(self) -> None:
        """Let keys change while the agent runs; the proxy is told, or asks for them each time."""
        follow = self._agent.live_options.follow

        def limit(number: int) -> None:
            self.cache.limit = number

        def min_ttl(seconds: int) -> None:
            self.cache.min_ttl = float(seconds)

        follow("tofqdns-endpoint-max-ip-per-hostname", limit)
        follow("tofqdns-min-ttl", min_ttl)
        follow("tofqdns-max-deferred-connection-deletes", lambda _: None)
        for key in (
            "tofqdns-dns-reject-response-code",
            "tofqdns-proxy-response-max-delay",
            "dnsproxy-concurrency-limit",
        ):
            follow(key, lambda _: self._dirty.set())

    # The proxy

    async def _keep_link(self) -> None:
        """Find or start the proxy, talk to it, for ever."""
        await self._agent.maps_ready.wait()
        while True:
            try:
                await self._ensure_running()
                await self._talk()
            except (OSError, ValueError, AxonemeError) as error:
                log.debug("dns proxy not reached", extra={"error": str(error)})
            await asyncio.sleep(RETRY_SECONDS)

    async def _ensure_running(self) -> None:
        found = await asyncio.to_thread(supervisor.running, self._folder)
        release = self._release()
        if found is not None and found.get("release") == release:
            return
        if found is not None:
            log.info("dns proxy of another release ends", extra={"pid": found["pid"]})
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(found["pid"]), signal.SIGTERM)
            await asyncio.sleep(RETRY_SECONDS)
        await asyncio.to_thread(self._spawn, release)
        self.counts["started"] += 1
        await asyncio.sleep(RETRY_SECONDS)

    def _release(self) -> str:
        port = self._agent.config.number("tofqdns-proxy-port")
        return f"{version('axoneme')} port {port} {json.dumps(self._offsets(), sort_keys=True)}"

    def _offsets(self) -> dict[str, int]:
        """Where the identity stands in the values of the maps that the proxy reads."""
        layouts = {"axo_endpoints": "axo_endpoint", "axo_ipcache": "axo_ipcache"}
        found = {}
        for name, struct in layouts.items():
            fields = self._agent.datapath.layout(struct).fields
            found[name] = next(f.offset for f in fields if f.name == "identity")
        return found

    def _spawn(self, release: str) -> None:
        agent = self._agent
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments = {
            "folder": str(self._folder),
            "pins": str(agent.datapath.root / "maps"),
            "offsets": self._offsets(),
            "families": [v for v, on in ((4, agent.ipv4), (6, agent.ipv6)) if on],
            "port": agent.config.number("tofqdns-proxy-port"),
            "release": release,
        }
        command = [sys.executable, "-m", supervisor.MODULE, json.dumps(arguments)]
        with (self._folder / "dns-proxy.log").open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        log.info("dns proxy started", extra={"pid": process.pid})

    async def _talk(self) -> None:
        path = self._folder / "dns-proxy.sock"
        reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_LINE)
        try:
            hello = json.loads(await reader.readline())
            self._writer, self.connected = writer, True
            self._set_port(int(hello["port"]))
            self._dirty.set()
            while line := await reader.readline():
                self._hear(json.loads(line))
        finally:
            self._writer, self.connected = None, False
            writer.close()

    def _set_port(self, port: int) -> None:
        if port != self.port:
            self.port = port
            registry = self._agent.services.get(L7Registry)
            PORTS[registry] = port
            registry.changed()

    async def _tell(self) -> None:
        """Send the rules whenever they have changed."""
        config = self._agent.config
        while True:
            await self._dirty.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._dirty.clear()
            message = {
                "type": "config",
                "rules": [to_plain(r) for r in self._rows if r.egress],
                "rcode": config.text("tofqdns-dns-reject-response-code"),
                "max_delay": config.seconds("tofqdns-proxy-response-max-delay"),
                "concurrency": config.number("dnsproxy-concurrency-limit"),
                "transparent": config.flag(TRANSPARENT),
            }
            if self._writer is not None:
                self._writer.write(json.dumps(message).encode() + b"\n")

    # What it learns

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("type") != "learned":
            return
        self.counts["learned"] += 1
        answers = [(ip_address(a), float(ttl)) for a, ttl in message["answers"]]
        changed = self.cache.add(message["client"], message["name"], answers, time.time())
        self._unsaved = True
        new = self._relabel(changed)
        task = asyncio.ensure_future(self._confirm(int(message["id"]), wait=new))
        task.add_done_callback(lambda t: t.cancelled() or t.exception())

    async def _confirm(self, number: int, *, wait: bool) -> None:
        if wait:
            await self._agent.services.get(PrefixLabels).programmed()  # type: ignore[type-abstract]
        if self._writer is not None:
            self._writer.write(json.dumps({"type": "done", "id": number}).encode() + b"\n")

    def _relabel(self, addresses: Iterable[Address]) -> bool:
        """Give addresses the labels that their names earn; whether that changed anything."""
        put: dict[Prefix, frozenset[Label]] = {}
        drop: list[Prefix] = []
        for address in addresses:
            prefix: Prefix = ip_network(address)
            labels = frozenset(
                Label(FQDN, peer.label_key)
                for name in self.cache.names(address)
                for peer in self._peers
                if peer_matches(peer, name)
            )
            if labels == self._labels.get(prefix, frozenset()):
                continue
            if labels:
                put[prefix] = labels
            else:
                drop.append(prefix)
        if not put and not drop:
            return False
        service = self._agent.services.get(PrefixLabels)  # type: ignore[type-abstract]
        service.drop(SOURCE, drop)
        for prefix in drop:
            self._labels.pop(prefix, None)
        try:
            service.put(SOURCE, put)
        except AxonemeError as error:
            log.warning("names not programmed", extra={"error": str(error), "count": len(put)})
            return False
        self._labels.update(put)
        return True

    def _peers_changed(self, _: object) -> None:
        self._relabel(self.cache.addresses())

    def forget(self) -> int:
        """Forget every name; how many addresses that was about."""
        changed = self.cache.forget()
        self._unsaved = True
        self._relabel(changed)
        return len(changed)

    def _endpoints_changed(self, changes: Any) -> None:
        gone = [str(a) for row in changes.deleted.values() for a in (row.ipv4, row.ipv6) if a]
        if gone:
            self._relabel(self.cache.forget(gone))
            self._unsaved = True

    async def _collect(self) -> None:
        """Forget what has expired, unless a connection uses it; save what is known."""
        await self._agent.maps_ready.wait()
        last = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            if time.monotonic() - last >= GC_SECONDS:
                last = time.monotonic()
                now = time.time()
                expired = self.cache.expired(now)
                found: set[tuple[str, Address]] = set()
                if expired:
                    found = await asyncio.to_thread(alive.connections, self._agent.datapath.maps)
                most = self._agent.config.number("tofqdns-max-deferred-connection-deletes")
                used = set([e for e in expired if e in found][:most])
                self.zombies = len(used)
                gone = self.cache.collect(now, used)
                self.counts["collected"] += len(expired) - len(used)
                self._relabel(gone)
                self._unsaved = self._unsaved or bool(gone)
            if self._unsaved:
                self._unsaved = False
                await asyncio.to_thread(_save, self._folder / "names.json", self.cache.dump())

    def _load(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.cache.load(json.loads((self._folder / "names.json").read_text()))

    # Views

    async def entries(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """``fqdn.cache``: every name that an endpoint was told."""
        now = time.time()
        return [
            {"endpoint": client, "name": name, "address": str(address),
             "seconds": max(0, round(until - now)),
             "selectors": sorted(p.label_key for p in self._peers if peer_matches(p, name))}
            for client, name, address, until in sorted(self.cache.rows(), key=lambda r: r[:2])
        ]  # fmt: skip

    async def clean(self, params: dict[str, Any]) -> dict[str, Any]:
        """``fqdn.clean``: forget all of them."""
        return {"addresses": self.forget()}

    async def names(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """``fqdn.names``: the names that rules ask for, and the addresses that stand for them."""
        found = []
        for peer in self._peers:
            addresses = {
                str(address)
                for _, name, address, _ in self.cache.rows()
                if peer_matches(peer, name)
            }
            kind = "matchName" if peer.name else "matchPattern"
            found.append({"selector": peer.label_key, "kind": kind, "addresses": sorted(addresses)})
        return found

    def selectors(self) -> int:
        """Names that rules ask for."""
        return len(self._peers)

    def rows(self) -> int:
        """Redirects in force."""
        return sum(row.protocol == PROTOCOL for row in self._rows)


def _save(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".new")
    part.write_text(json.dumps(rows))
    part.replace(path)
