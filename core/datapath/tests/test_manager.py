"""The datapath of a node over restarts and upgrades, on a real veth pair."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from axoneme.core.datapath import links, syscalls, tc, testrun
from axoneme.core.datapath.attachments import Attachment
from axoneme.core.datapath.loader import load_text
from axoneme.core.datapath.manager import DatapathManager
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.errors import DatapathError, VerifierError

Make = Callable[..., DatapathManager]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF, CAP_NET_ADMIN"),
]

SKELETON = """
struct axo_ctx { u32 unused; };
BPF_TABLE("hash", u32, u64, axo_count, 64);
BPF_TABLE("prog", u32, u32, axoscratch_calls, 4);

int entry(struct __sk_buff *skb)
{
	struct axo_ctx none = {}, *ctx = &none;
	int verdict = AXO_STAGES(demo);

	axoscratch_calls.call(skb, 1);
	return verdict == 0x7fff ? 0 : verdict;
}

int tail(struct __sk_buff *skb)
{
	u32 key = 0;
	u64 one = 1, *seen = axo_count.lookup(&key);

	if (seen)
		lock_xadd(seen, 1);
	else
		axo_count.update(&key, &one);
	return AXO_VERDICT;
}
"""
BAD_STAGE = """
static __always_inline int bad(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	return *(int *)(long)skb->data;
}
"""


@pytest.fixture
def make(bpf_root: Path, tmp_path: Path, cache_dir: Path) -> Iterator[Make]:
    """Managers over one root, as an agent makes at each start."""
    skeleton = tmp_path / "demo.bpf.c"
    skeleton.write_text(SKELETON.replace("lock_xadd(seen, 1)", "__sync_fetch_and_add(seen, 1)"))
    made: list[DatapathManager] = []

    def build(verdict: int = 2, *, stage: str = "", **config: object) -> DatapathManager:
        registry = DatapathRegistry(include_dirs=[])
        registry.program("demo", skeleton, entry="entry")
        registry.define("AXO_VERDICT", verdict)
        registry.tail_call("axoscratch_calls", 1, "tail")
        if stage:
            source = tmp_path / "bad.bpf.c"
            source.write_text(stage)
            registry.stage("demo", "bad", source)
        manager = DatapathManager(config, None, bpf_root, cache_dir, registry=registry)
        made.append(manager)
        manager.prepare()
        manager.load()
        return manager

    yield build
    for manager in made:
        manager.close()


def rows(*pairs: tuple[int, str]) -> dict[tuple[int, str], Attachment]:
    return {(i, hook): Attachment(i, f"axot{i}", hook, "demo") for i, hook in pairs}


def counted(manager: DatapathManager) -> int:
    raw = manager.maps["axo_count"].lookup(bytes(4))
    return struct.unpack("=Q", raw)[0] if raw else 0


def send(count: int = 1, device: str = "axot1") -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        for _ in range(count):
            sock.send(bytes(12) + b"\x88\xb5" + bytes(46))


def test_programs_run_on_the_device_and_survive_the_agent(
    make: Make, veth: tuple[int, int]
) -> None:
    """After the agent is gone packets still reach the tail-called program; the next agent
    reads what it counted."""
    first = make()
    assert first.target.resync(rows((veth[0], "tc-ingress"))) == {}
    send(3)
    assert counted(first) == 3
    first.close()
    send(4)
    second = make()
    assert counted(second) == 7
    assert len(second.target.attached()) == 1


@pytest.mark.parametrize("classic", [False, True], ids=["tcx", "clsact"])
def test_replacement_leaves_no_gap(make: Make, veth: tuple[int, int], classic: bool) -> None:
    """While 20 generations follow each other under load, each frame is counted, once."""
    wanted = {k: attrs.evolve(r, classic=classic) for k, r in rows((veth[0], "tc-ingress")).items()}
    first = make(verdict=2)
    first.target.resync(wanted)
    netns = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    stop = threading.Event()
    sent = 0

    def flood() -> None:
        nonlocal sent
        assert ctypes.CDLL(None).setns(netns, 0) == 0
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("axot1", 0))
            while not stop.is_set():
                sock.send(bytes(12) + b"\x88\xb5" + bytes(46))
                sent += 1

    thread = threading.Thread(target=flood)
    thread.start()
    last = first
    try:
        for number in range(20):
            last = make(verdict=2 if number % 2 else 4)
            assert last.target.resync(wanted) == {}
    finally:
        stop.set()
        thread.join()
        os.close(netns)
    time.sleep(0.1)
    assert sent > 1000
    assert counted(last) == sent
    generations = list((last.root / "generations").iterdir())
    assert [p.name for p in generations] == ["21"]


def test_refused_program_leaves_everything_as_it_was(make: Make, veth: tuple[int, int]) -> None:
    """An upgrade that the verifier refuses changes neither pins nor attachments."""
    first = make()
    first.target.resync(rows((veth[0], "tc-ingress")))
    before = sorted(str(p) for p in first.root.rglob("*"))
    with pytest.raises(VerifierError) as caught:
        make(stage=BAD_STAGE)
    assert caught.value.file.endswith("bad.bpf.c")
    assert caught.value.line == 4
    assert sorted(str(p) for p in first.root.rglob("*")) == before
    send(2)
    assert counted(first) == 2


def test_undesired_links_are_swept_and_foreign_ones_are_not(
    make: Make, veth: tuple[int, int], cache_dir: Path
) -> None:
    """A full pass removes our link that no row wants, and nobody else's."""
    manager = make()
    both = rows((veth[0], "tc-ingress"), (veth[0], "tc-egress"))
    manager.target.resync(both)
    with load_text("int f(struct __sk_buff *skb) { return -1; }", cache_dir=cache_dir) as other:
        foreign = syscalls.link_create(other.programs["f"].fd, veth[0], 46)
        manager.target.resync(rows((veth[0], "tc-egress")))
        assert [a.pin for a in manager.target.attached()] == [f"tc-egress-{veth[0]}"]
        assert links.read_info(foreign).target == veth[0]
        os.close(foreign)


def test_one_bad_row_does_not_stop_the_others(make: Make, veth: tuple[int, int]) -> None:
    """A device that is not there is that row's error."""
    manager = make()
    wanted = rows((99999, "tc-ingress"), (veth[0], "tc-ingress"), (veth[1], "xdp"))
    wanted[veth[1], "xdp"] = Attachment(veth[1], "axot1", "xdp", "nothing")
    failed = manager.target.apply(wanted, {})
    assert set(failed) == {(99999, "tc-ingress"), (veth[1], "xdp")}
    assert "there is no program nothing" in str(failed[veth[1], "xdp"])
    assert len(manager.target.attached()) == 1


def test_detach_removes_the_program(make: Make, veth: tuple[int, int]) -> None:
    """A deleted row ends the processing."""
    manager = make()
    wanted = rows((veth[0], "tc-ingress"))
    manager.target.apply(wanted, {})
    manager.target.apply({}, wanted)
    send(3)
    assert counted(manager) == 0
    assert manager.target.attached() == []


def test_clsact_when_tcx_is_off_and_back(make: Make, veth: tuple[int, int]) -> None:
    """The option moves the program from the link to a filter, and back, in one start each."""
    make().target.resync(rows((veth[0], "tc-ingress")))
    classic = make(**{"enable-tcx": False})
    assert classic.target.resync(rows((veth[0], "tc-ingress"))) == {}
    found = tc.current(veth[0], tc.INGRESS)
    assert found is not None
    assert found.prog_id == classic.programs["demo"].id
    assert list((classic.root / "links").iterdir()) == []
    send(2)
    assert counted(classic) == 2
    modern = make()
    modern.target.resync(rows((veth[0], "tc-ingress")))
    assert tc.current(veth[0], tc.INGRESS) is None
    send(2)
    assert counted(modern) == 4


def test_removed_classic_filter_is_repaired(make: Make, veth: tuple[int, int]) -> None:
    """Somebody flushed the device's filters: the next full pass puts ours back, and a pass that
    finds it in place leaves it alone."""
    manager = make(**{"enable-tcx": False})
    wanted = rows((veth[0], "tc-ingress"))
    manager.target.resync(wanted)
    subprocess.run(["tc", "qdisc", "del", "dev", "axot0", "clsact"], check=True)
    assert tc.current(veth[0], tc.INGRESS) is None
    assert manager.target.resync(wanted) == {}
    assert manager.target.resync(wanted) == {}
    send(2)
    assert counted(manager) == 2


def test_classic_filters_of_an_older_agent_are_swept(make: Make, veth: tuple[int, int]) -> None:
    """Even when no row names their device any more."""
    make(**{"enable-tcx": False}).target.resync(rows((veth[0], "tc-ingress")))
    make().target.resync({})
    assert tc.current(veth[0], tc.INGRESS) is None


def test_device_that_came_back_gets_its_program_again(make: Make, veth: tuple[int, int]) -> None:
    """A new device with the index of an old one is not taken for it."""
    manager = make()
    wanted = rows((veth[0], "tc-ingress"))
    manager.target.resync(wanted)
    subprocess.run(["ip", "link", "del", "axot0"], check=True)
    assert set(manager.target.resync(wanted)) == {(veth[0], "tc-ingress")}
    add = f"ip link add axot0 index {veth[0]} type veth peer name axot1"
    for command in (add, "ip link set axot0 up", "ip link set axot1 up"):
        subprocess.run(command.split(), check=True)
    assert manager.target.resync(wanted) == {}
    send(2)
    assert counted(manager) == 2


def test_a_device_that_never_comes_does_not_keep_the_old_generation(
    make: Make, veth: tuple[int, int]
) -> None:
    """Old pins are swept when no link runs an old program, whatever rows fail."""
    make().target.resync(rows((veth[0], "tc-ingress")))
    second = make()
    assert set(second.target.resync(rows((veth[0], "tc-ingress"), (99999, "tc-ingress")))) == {
        (99999, "tc-ingress")
    }
    assert [p.name for p in (second.root / "generations").iterdir()] == ["2"]


def test_old_generation_stays_while_one_of_its_programs_is_attached(
    make: Make, veth: tuple[int, int]
) -> None:
    """Its prog arrays must not be emptied under it."""
    make().target.resync(rows((veth[0], "tc-ingress"), (veth[1], "tc-ingress")))
    second = make()
    second.target.apply(rows((veth[0], "tc-ingress")), {})
    assert not second.settle()
    assert len(list((second.root / "generations").iterdir())) == 2
    second.target.apply(rows((veth[1], "tc-ingress")), {})
    assert second.settle()


def test_xdp_and_cgroup_programs_are_adopted(
    bpf_root: Path, cache_dir: Path, tmp_path: Path, veth: tuple[int, int]
) -> None:
    """The other kinds of hook are attached, swapped by the next start, and swept."""
    cgroup = Path("/sys/fs/cgroup/unified") / bpf_root.name
    if not cgroup.parent.is_dir():
        cgroup = Path("/sys/fs/cgroup") / bpf_root.name
    cgroup.mkdir()
    (tmp_path / "fast.bpf.c").write_text("int fast(struct xdp_md *xdp) { return XDP_PASS; }\n")
    (tmp_path / "connect.bpf.c").write_text(
        "int connect4(struct bpf_sock_addr *sa) { return 1; }\n"
    )
    wanted = {
        row.key: row
        for row in (
            Attachment(veth[0], "axot0", "xdp", "fast"),
            Attachment(0, "", "cgroup:inet4_connect", "connect4", str(cgroup)),
        )
    }
    try:
        for _ in range(2):
            registry = DatapathRegistry(include_dirs=[])
            registry.program("fast", tmp_path / "fast.bpf.c", "xdp")
            registry.program("connect4", tmp_path / "connect.bpf.c", "cgroup_inet4_connect")
            manager = DatapathManager({}, None, bpf_root, cache_dir, registry=registry)
            manager.prepare()
            manager.load()
            assert manager.target.resync(wanted) == {}
            ids = {a.prog_id for a in manager.target.attached()}
            assert ids == {p.id for p in manager.programs.values()}
            manager.close()
        manager.target.resync({})
        assert manager.target.attached() == []
    finally:
        cgroup.rmdir()


def test_second_agent_is_noticed(make: Make, veth: tuple[int, int]) -> None:
    """A link whose program changed under our hands is not overwritten."""
    first, second = make(), make(verdict=4)
    first.target.resync(rows((veth[0], "tc-ingress")))
    link = links.Link.open(first.root / "links" / f"tc-ingress-{veth[0]}")
    assert link is not None
    with pytest.raises(OSError, match="not permitted"):
        syscalls.link_update(link.fd, second.programs["demo"].fd, second.programs["demo"].fd)
    assert link.update(second.programs["demo"])
    assert not link.update(second.programs["demo"])
    link.close()


def test_the_reconciler_follows_the_table(make: Make, veth: tuple[int, int]) -> None:
    """A row that is put into the table is attached when its revision is applied."""
    manager = make()

    async def scenario() -> int:
        reconciler = manager.reconciler()
        task = asyncio.create_task(reconciler.run())
        for row in rows((veth[0], "tc-ingress")).values():
            manager.attachments.upsert(row)
        assert await reconciler.wait_for(manager.attachments.revision) == {}
        task.cancel()
        return len(manager.target.attached())

    # The target's thread must be in the test's namespace: it inherits it when it starts.
    assert asyncio.run(scenario()) == 1


def test_views_for_people(make: Make) -> None:
    """Typed entries and run-time statistics."""
    manager = make()
    manager.enable_statistics()
    testrun.run(manager.programs["demo"].fd, bytes(64), repeat=5)
    (stats,) = manager.stats()
    assert stats.runs >= 5
    assert stats.nanoseconds > 0
    assert dict(manager.typed("axo_count", int, int).items()) == {0: 5}
    with pytest.raises(DatapathError):
        manager.typed("axo_count", bytes, str)
