"""A program of XDP on a device by netlink, where no link's descriptor shall have to live."""

from __future__ import annotations

from pyroute2 import IPRoute

NATIVE = 4
"""``XDP_FLAGS_DRV_MODE``"""


def attach(index: int, program: int) -> None:
    """The program (a descriptor) stays as long as the device (rtnetlink(7), ``IFLA_XDP``)."""
    wanted = [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", NATIVE)]
    with IPRoute() as route:
        route.link("set", index=index, xdp={"attrs": wanted})
