"""Kinds of link whose messages we do not make ourselves: pyroute2 does.

Imported only when such a link is made: pyroute2 takes 0.2 s and 20 MiB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from axoneme.core.errors import NetlinkError
from axoneme.core.model.network import Link
from axoneme.core.netlink.namespaces import run_in_netns


def create_link(link: Link, alias: str, netns: Path | None) -> None:
    """Make a link of any kind that pyroute2 knows, up, with its names for the attributes."""
    if netns is None:
        _create(link, alias)
    else:
        run_in_netns(netns, lambda: _create(link, alias))


def _create(link: Link, alias: str) -> None:
    from pyroute2 import IPRoute  # noqa: PLC0415 - see above
    from pyroute2.netlink.exceptions import NetlinkError as ForeignError  # noqa: PLC0415

    values: dict[str, Any] = dict(link.attributes)
    if link.mtu:
        values["mtu"] = link.mtu
    if link.mac:
        values["address"] = link.mac
    try:
        with IPRoute() as ipr:
            ipr.link("add", ifname=link.name, kind=link.kind, **values)
            index = ipr.link_lookup(ifname=link.name)[0]
            ipr.link("set", index=index, state="up", arp=link.arp, ifalias=alias)
    except ForeignError as error:
        raise NetlinkError(
            f"link {link.name}: kind {link.kind}: {error.args[1]}".lower(), errno=error.code
        ) from error
