"""The agent is killed at every point of an upgrade; the next start always comes up right."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from axoneme.core.datapath.links import Link
from axoneme.core.datapath.maps import BpfMap

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF, CAP_NET_ADMIN"),
]

TEXT = """
struct value { u32 a; %s};
BPF_TABLE("hash", u32, struct value, axo_kept, 64);
BPF_TABLE("prog", u32, u32, axoscratch_calls, 4);
int entry(struct __sk_buff *skb)
{
	axoscratch_calls.call(skb, 1);
	return 0;
}
int tail(struct __sk_buff *skb)
{
	u32 key = 0;
	struct value *v = axo_kept.lookup(&key);

	return v ? 2 : 0;
}
"""
SCRIPT = """
import sys, os
from pathlib import Path
from axoneme.core.datapath import syscalls
from axoneme.core.datapath.attachments import Attachment
from axoneme.core.datapath.manager import DatapathManager
from axoneme.core.datapath.registry import DatapathRegistry

root, cache, skeleton = (Path(p) for p in sys.argv[1:4])
left, ifindex = int(sys.argv[4]), int(sys.argv[5])

def mortal(function):
    def run(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return function(*args, **kwargs)
    return run

for name in ("obj_pin", "link_create", "link_update", "map_create", "prog_load"):
    setattr(syscalls, name, mortal(getattr(syscalls, name)))
for name in ("rename", "unlink", "replace"):
    setattr(Path, name, mortal(getattr(Path, name)))
registry = DatapathRegistry(include_dirs=[])
registry.program("demo", skeleton, entry="entry")
registry.tail_call("axoscratch_calls", 1, "tail")
manager = DatapathManager({}, None, root, cache, registry=registry)
manager.prepare()
manager.load()
row = Attachment(ifindex, "axot0", "tc-ingress", "demo")
sys.exit(1 if manager.target.resync({row.key: row}) else 0)
"""


def test_killed_anywhere_the_next_start_is_right(
    bpf_root: Path, cache_dir: Path, tmp_path: Path, veth: tuple[int, int]
) -> None:
    """At each of some thirty steps: entries are kept, a program is attached throughout, its tail
    call works, and nothing is left over by the start after."""
    old, new = tmp_path / "old.bpf.c", tmp_path / "new.bpf.c"
    old.write_text(TEXT % "u32 b; ")
    new.write_text(TEXT % "u32 c; u32 b; ")

    def upgrade(skeleton: Path, lives: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, bpf_root, cache_dir, skeleton, str(lives), str(veth[0])],
            check=False,
        )
        return done.returncode

    for lives in range(100):
        assert upgrade(old, 10_000) == 0
        with manager_map(bpf_root) as kept:
            kept.replace({bytes(4): struct.pack("=II", 7, 8)})
        code = upgrade(new, lives)
        assert attached(bpf_root, veth[0])
        if code == 0:
            break
        assert code == 9
        assert upgrade(new, 10_000) == 0
        with manager_map(bpf_root) as kept:
            assert dict(kept.items()) == {bytes(4): struct.pack("=III", 7, 0, 8)}
        root = bpf_root / "axoneme"
        assert len(list((root / "generations").iterdir())) == 1
        assert [p.name for p in (root / "maps").iterdir()] == ["axo_kept"]
        assert len(list((root / "schemas").iterdir())) == 1
    assert 10 < lives < 99


def manager_map(root: Path) -> BpfMap:
    return BpfMap.open(root / "axoneme/maps/axo_kept")


def attached(root: Path, ifindex: int) -> bool:
    link = Link.open(root / f"axoneme/links/tc-ingress-{ifindex}")
    assert link is not None
    info = link.info
    link.close()
    return info.target == ifindex and info.prog_id > 0
