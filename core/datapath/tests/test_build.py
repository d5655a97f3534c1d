"""Compiling: what comes back, what errors say, and the cache."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from axoneme.core.datapath import build
from axoneme.core.datapath.build import Source, cache_key, compile_source
from axoneme.core.errors import CompileError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF (bcc creates maps)"),
]

HEAD = '#line 1 "/plugin/shield.bpf.c"\n'
GOOD = HEAD + (
    "struct pair { u32 a; u32 b; };\n"
    'BPF_TABLE("lru_hash", struct pair, u64, axo_seen, 70000);\n'
    'BPF_F_TABLE("lpm_trie", struct pair, u32, axo_inner, 64, BPF_F_NO_PREALLOC);\n'
    'BPF_HASH_OF_MAPS(axo_outer, u32, "axo_inner", 16);\n'
    "int count(struct __sk_buff *skb)\n"
    "{\n"
    "\tstruct pair key = {.a = skb->mark};\n"
    "\tu64 *seen = axo_seen.lookup(&key);\n"
    "\n"
    "\treturn seen ? (int)*seen : 0;\n"
    "}\n"
)


def broken(body: str) -> CompileError:
    with pytest.raises(CompileError) as caught:
        compile_source(Source("shield", HEAD + body))
    return caught.value


def test_maps_keep_their_declared_shape() -> None:
    """Type, sizes, flags, number of entries and the inner map are those of the C."""
    maps = compile_source(Source("t", GOOD)).maps
    seen, inner = maps["axo_seen"], maps["axo_inner"]
    assert (seen.type_name, seen.key_size, seen.value_size, seen.max_entries) == (
        "lru_hash",
        8,
        8,
        70000,
    )
    assert (inner.type_name, inner.max_entries, inner.flags) == ("lpm_trie", 64, 1)
    assert (maps["axo_outer"].type_name, maps["axo_outer"].inner) == ("hash_of_maps", "axo_inner")
    assert set(maps) == {"axo_seen", "axo_inner", "axo_outer"}


def test_instructions_know_their_source_line() -> None:
    """The map access maps back to its own line of the plugin's file."""
    function = compile_source(Source("t", GOOD)).functions["count"]
    (at, name) = function.relocations[0]
    assert name == "axo_seen"
    assert function.locate(at) == ("/plugin/shield.bpf.c", 8)


def test_layout_of_a_struct_on_demand() -> None:
    """A struct that is no key or value can be asked for."""
    compiled = compile_source(Source("t", GOOD, structs=("pair",)))
    assert [(f.name, f.offset) for f in compiled.layout("pair").fields] == [("a", 0), ("b", 4)]


def test_syntax_error_names_the_plugins_file_and_line() -> None:
    """What clang says about the merged text is said about the plugin's own line."""
    error = broken("int f(struct __sk_buff *skb)\n{\n\treturn nonsense;\n}\n")
    assert (error.file, error.line) == ("/plugin/shield.bpf.c", 3)
    assert "nonsense" in str(error)


def test_error_in_an_inlined_second_file_names_that_file() -> None:
    """The mark in force decides, not the first one."""
    error = broken('int a;\n#line 40 "/plugin/other.h"\nint f(struct nothing x) { return x.y; }\n')
    assert (error.file, error.line) == ("/plugin/other.h", 40)


def test_stack_overflow_ends_the_compiler_not_us() -> None:
    """bcc exits its process on a stack above 512 bytes; here it is an error with a place."""
    error = broken(
        "int f(struct __sk_buff *skb)\n{\n\tvolatile char big[600];\n"
        "\tbig[skb->len & 511] = 1;\n\treturn big[skb->mark & 511];\n}\n"
    )
    assert "512 bytes" in str(error)
    assert (error.file, error.line) == ("/plugin/shield.bpf.c", 1)


def test_signed_division_aborts_the_compiler_not_us() -> None:
    """LLVM aborts on it; the error says what the C did wrong."""
    error = broken("int f(struct __sk_buff *skb)\n{\n\treturn (int)skb->len / (int)skb->mark;\n}\n")
    assert "signed division" in str(error)


def test_non_inline_helper_function_is_an_error() -> None:
    """bcc has no calls between functions; the calling line is named."""
    error = broken(
        "int g(int a) { return a; }\nint f(struct __sk_buff *skb) { return g(skb->len); }\n"
    )
    assert (error.file, error.line) == ("/plugin/shield.bpf.c", 2)


def test_a_second_compilation_reads_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No child is started for what is in the cache, and the result is equal."""
    first = compile_source(Source("t", GOOD), tmp_path)
    monkeypatch.setattr(build, "_run_compiler", lambda _: pytest.fail("compiled again"))
    assert compile_source(Source("t", GOOD), tmp_path) == first


def test_flags_and_structs_are_part_of_the_key() -> None:
    """What changes the result changes the name of the cache entry."""
    keys = {
        cache_key(Source("t", GOOD)),
        cache_key(Source("t", GOOD, flags=("-DX",))),
        cache_key(Source("t", GOOD, structs=("pair",))),
        cache_key(Source("t", GOOD + " ")),
    }
    assert len(keys) == 4


def test_damaged_entry_is_compiled_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A truncated file is no reason to fail, and it is said."""
    source = Source("t", GOOD)
    first = compile_source(source, tmp_path)
    entry = tmp_path / f"{cache_key(source)}.json"
    entry.write_text(entry.read_text()[:100])
    with caplog.at_level(logging.WARNING):
        assert compile_source(source, tmp_path) == first
    assert "damaged" in caplog.text


def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    """Of four agents, one runs the compiler; the others wait for its result."""
    runner = tmp_path / "run.py"
    runner.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from axoneme.core.datapath import build\n"
        "real = build._run_compiler\n"
        "def counted(source):\n"
        "    print('compiled', flush=True)\n"
        "    return real(source)\n"
        "build._run_compiler = counted\n"
        f"source = build.Source('t', {GOOD!r})\n"
        "print(len(build.compile_source(source, Path(sys.argv[1])).functions['count'].code))\n"
    )
    cache = tmp_path / "cache"
    children = [
        subprocess.Popen(
            [sys.executable, str(runner), str(cache)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    said = [child.communicate(timeout=60)[0].split() for child in children]
    assert sum(words.count("compiled") for words in said) == 1
    assert len({words[-1] for words in said}) == 1


def test_prune_keeps_the_entries_used_last(tmp_path: Path) -> None:
    """The cache does not grow for ever."""
    for number in range(5):
        path = tmp_path / f"{number}.json"
        path.write_text("{}")
        os.utime(path, (number, number))
    assert build.prune(tmp_path, keep=2) == 3
    assert sorted(p.name for p in tmp_path.glob("*.json")) == ["3.json", "4.json"]


def test_several_processes_prune_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another one removes between two looks is gone, and no error."""
    for number in range(5):
        (tmp_path / f"{number}.json").write_text("{}")
    look = build._last_used

    def and_removed(entry: Path) -> float:
        entry.unlink(missing_ok=True)
        return look(entry)

    monkeypatch.setattr(build, "_last_used", and_removed)
    assert build.prune(tmp_path, keep=2) == 3
    assert list(tmp_path.iterdir()) == []
