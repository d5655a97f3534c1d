"""Services' part of the packet path: stages, algorithms, constants, map sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from axoneme.plugins.services.config import constants, map_sizes

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.datapath.registry import DatapathRegistry

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE / "services.bpf.c"
SELECT: Final = "lb_select"
"""The point at which algorithms choose a backend."""
STAGES: Final = (
    ("egress_translate", -100),
    ("ingress_deliver", 0),
    ("egress_answer", 0),
    ("egress_unserved", 0),
)


def register(datapath: DatapathRegistry, config: Config) -> None:
    """Everything of ours; headers can be included by plugins that build on them."""
    datapath.include_dir(HERE)
    for point, order in STAGES:
        datapath.stage(point, f"services_{point}", SOURCE, order=order)
    datapath.alternative(SELECT, "random", "random_lb_select", HERE / "random.bpf.c")
    datapath.alternative(SELECT, "maglev", "maglev_lb_select", HERE / "maglev.bpf.c")
    for name, value in constants(config).items():
        datapath.define(name, value)
    for name, size in map_sizes(config).items():
        datapath.map_size(name, size)
