"""Loading: the verifier's refusal in terms of the plugin's source; test runs; the ring."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from axoneme.core.datapath import testrun
from axoneme.core.datapath.compose import merge_text
from axoneme.core.datapath.loader import load_text, verified_insns
from axoneme.core.datapath.registry import default_include_dirs
from axoneme.core.datapath.ring import RingReader
from axoneme.core.errors import DatapathError, VerifierError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF"),
]

REFUSED = (
    'BPF_TABLE("hash", u32, u32, axo_m, 8);\n'
    '#line 10 "/plugin/shield.bpf.c"\n'
    "int f(struct __sk_buff *skb)\n{\n\tu32 key = 0;\n"
    "\tu32 *value = axo_m.lookup(&key);\n\n\treturn *value;\n}\n"
)

RING = (
    "BPF_RINGBUF_OUTPUT(axo_ring, 1);\n"
    "int f(struct __sk_buff *skb)\n{\n"
    "\tu64 *record = axo_ring.ringbuf_reserve(24);\n\n"
    "\tif (!record)\n\t\treturn 2;\n"
    "\trecord[0] = skb->mark;\n"
    "\tif (skb->mark == 13)\n\t\taxo_ring.ringbuf_discard(record, 0);\n"
    "\telse\n\t\taxo_ring.ringbuf_submit(record, BPF_RB_NO_WAKEUP);\n"
    "\treturn 0;\n}\n"
)


def test_verifier_refusal_names_the_source_line(cache_dir: Path) -> None:
    """A missing test for NULL is reported at the line that uses the pointer."""
    with pytest.raises(VerifierError) as caught:
        load_text(REFUSED, cache_dir=cache_dir)
    error = caught.value
    assert (error.file, error.line) == ("/plugin/shield.bpf.c", 15)
    assert "map_value_or_null" in str(error)
    assert "processed" in error.log


def test_program_sees_the_packet_and_its_context(cache_dir: Path) -> None:
    """Data, mark and the changed packet come back from a test run."""
    text = (
        "#include <linux/if_ether.h>\n"
        "int f(struct __sk_buff *skb)\n{\n"
        "\tu8 last = 0xaa;\n\n"
        "\tskb->mark = skb->mark + 1;\n"
        "\tskb->cb[0] = skb->cb[1];\n"
        "\tbpf_skb_store_bytes(skb, 20, &last, 1, 0);\n"
        "\treturn TC_ACT_SHOT;\n}\n"
    )
    with load_text("#include <linux/pkt_cls.h>\n" + text, cache_dir=cache_dir) as loaded:
        program = loaded.programs["f"]
        result = testrun.run(program.fd, bytes(64), mark=41, cb=(0, 5), repeat=3)
        assert (result.verdict, result.data_out[20], len(result.data_out)) == (2, 0xAA, 64)
        assert result.ctx is not None
        assert (result.ctx.mark, result.ctx.cb[0]) == (42 + 2, 5)
        assert verified_insns(program.fd) > 0
        with pytest.raises(DatapathError, match="protocol"):
            testrun.run(program.fd, bytes(64), protocol=1)


def test_xdp_program_runs_without_skb(cache_dir: Path) -> None:
    """An XDP program is loaded and run with its own context."""
    text = "int x(struct xdp_md *xdp)\n{\n\treturn XDP_PASS;\n}\n"
    with load_text(text, kind="xdp", cache_dir=cache_dir) as loaded:
        assert testrun.run(loaded.programs["x"].fd, bytes(64), skb=False).retval == 2


def test_socket_program_is_loadable(cache_dir: Path) -> None:
    """connect4 programs get their expected attach type."""
    text = "int c(struct bpf_sock_addr *sa)\n{\n\tsa->user_port = 0;\n\treturn 1;\n}\n"
    with load_text(text, kind="cgroup_inet4_connect", cache_dir=cache_dir) as loaded:
        assert loaded.programs["c"].id > 0


def test_every_header_of_ours_compiles(cache_dir: Path) -> None:
    """The kernel headers that we ship are complete in themselves, in both spellings."""
    tree = Path(__file__).parents[1] / "kernel/include"
    names = sorted(p.name for p in (tree / "linux").glob("*.h"))
    text = "".join(f"#include <linux/{n}>\n" for n in names)
    text += "".join(f"#include <uapi/linux/{p.name}>\n" for p in (tree / "uapi/linux").glob("*.h"))
    text += (
        "#define SIZE(type, size) _Static_assert(sizeof(type) == size, #type)\n"
        "SIZE(struct ethhdr, 14); SIZE(struct iphdr, 20); SIZE(struct ipv6hdr, 40);\n"
        "SIZE(struct tcphdr, 20); SIZE(struct udphdr, 8); SIZE(struct icmphdr, 8);\n"
        "SIZE(struct icmp6hdr, 8); SIZE(struct nd_msg, 24); SIZE(struct arphdr, 8);\n"
        "SIZE(struct frag_hdr, 8); SIZE(struct sctphdr, 12); SIZE(struct vlan_hdr, 4);\n"
        "int f(struct __sk_buff *skb) { return 0; }\n"
    )
    load_text(text, cache_dir=cache_dir).close()


def test_ring_gives_records_in_order_and_wraps(cache_dir: Path) -> None:
    """Three times the ring's size goes through it; discarded records are only counted."""
    with load_text(RING, cache_dir=cache_dir) as loaded:
        program = loaded.programs["f"]
        reader = RingReader(loaded.maps["axo_ring"])
        seen: list[int] = []
        for mark in range(400):
            assert testrun.run(program.fd, bytes(64), mark=mark).retval == 0
            if mark % 50 == 49:
                seen += [struct.unpack_from("=Q", record)[0] for record in reader.drain()]
        assert seen == [m for m in range(400) if m != 13]
        assert (reader.records, reader.discarded, reader.pending) == (399, 1, 0)
        reader.close()


def test_a_full_ring_stops_the_writer_not_the_reader(cache_dir: Path) -> None:
    """A stalled reader costs events; after draining there is room again."""
    with load_text(RING, cache_dir=cache_dir) as loaded:
        program = loaded.programs["f"]
        reader = RingReader(loaded.maps["axo_ring"])
        testrun.run(program.fd, bytes(64), repeat=1000)
        assert testrun.run(program.fd, bytes(64)).retval == 2
        assert reader.fill > 0.95
        assert len(reader.drain(limit=10)) == 10
        assert testrun.run(program.fd, bytes(64)).retval == 0
        reader.close()


def test_a_map_that_is_no_ring_is_refused(cache_dir: Path) -> None:
    """Reading a hash as a ring would read wild memory."""
    with (
        load_text(REFUSED.replace("*value;", "0;"), cache_dir=cache_dir) as loaded,
        pytest.raises(DatapathError, match="not a ring buffer"),
    ):
        RingReader(loaded.maps["axo_m"])


def test_the_cores_headers_compile_alone(cache_dir: Path) -> None:
    """Each header of the packet path includes what it needs."""
    for folder in default_include_dirs():
        for header in sorted((folder / "axo").glob("abi.h")):
            text = f'#include "axo/{header.name}"\nint f(struct __sk_buff *skb) {{ return 0; }}\n'
            load_text(merge_text(text, [folder]), cache_dir=cache_dir).close()
