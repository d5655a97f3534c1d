"""The packet path of one node: what plugins registered, compiled, loaded, pinned and attached.

Order of a start (or of an upgrade, which is the same): register, compose, compile in children,
open or migrate pinned maps, load and verify every program of the new generation, and only then
replace pins. Attachments are switched by their reconciler, one atomic link update each; when
all are, :meth:`DatapathManager.settle` copies what old programs wrote to replaced maps meanwhile
and sweeps what nobody wants. Until then the old generation forwards, whatever happens here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from axoneme.bpf import registration as bpf_registration
from axoneme.core.datapath import generation as gen
from axoneme.core.datapath import syscalls as sc
from axoneme.core.datapath.attachments import (
    Attachment,
    AttachmentTarget,
    Key,
    attachment_key,
    supports_tcx,
)
from axoneme.core.datapath.build import Source, compile_all, prune
from axoneme.core.datapath.compose import Composed, compose, compose_structs, units
from axoneme.core.datapath.enums import EnumTable, find_enum
from axoneme.core.datapath.layouts import Layout
from axoneme.core.datapath.loader import Program
from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.objects import CompiledObject
from axoneme.core.datapath.pins import PinStore
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.stats import ProgramStats, program_stats
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.errors import DatapathError, NotFoundError
from axoneme.core.reconcile.reconciler import Reconciler
from axoneme.core.state.table import Table

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")


class DatapathManager:
    """``plugins_hook`` is the relay of the enabled plugins; ``None`` (tests, tools) takes only
    what ``registry`` holds, without the core's own programs, and then ``config`` may be a
    ``dict``. ``cache_dir`` may be shared by agents; ``bpf_root`` (a folder of a BPF file system)
    belongs to one."""

    def __init__(
        self,
        config: Any,
        plugins_hook: Any,
        bpf_root: Path,
        cache_dir: Path,
        *,
        registry: DatapathRegistry | None = None,
    ) -> None:
        self.config = config
        self.root = bpf_root / "axoneme"
        self.cache_dir = cache_dir
        self.registry = DatapathRegistry()
        self._base = registry or DatapathRegistry()
        self.attachments: Table[Key, Attachment] = Table("attachments", Attachment, attachment_key)
        self.composed: dict[str, Composed] = {}
        self.target = AttachmentTarget(self, self.root / "links", on_pass=self.settle)
        self._hook = plugins_hook
        self._pins = PinStore(self.root, cache_dir / "schemas")
        self._compiled: dict[str, CompiledObject] = {}
        self._maps: dict[str, BpfMap] = {}
        self._generation: gen.Generation | None = None
        self._prepared: gen.Generation | None = None
        self._settled = False
        self._statistics = -1
        self._enums: dict[str, EnumTable] = {}

    # -- start -------------------------------------------------------------------------

    def prepare(self) -> None:
        """Compose, compile, open maps, load and verify. Blocking: run it in a thread.

        Raises ``CompileError`` or ``VerifierError`` with the plugin's own file and line; then
        nothing in the kernel has changed. Afterwards :attr:`maps` are there.
        """
        self._register()
        self._compile()
        definitions = gen.merge_definitions(self._compiled, self.registry.map_sizes)
        fresh = gen.Generation(gen.next_number(self.root / "generations"))
        templates = gen.templates(definitions, self._compiled)
        maps: dict[str, BpfMap] = {}
        try:
            self._pins.open_all(definitions, templates, maps)
            for name, composed in self.composed.items():
                calls = self.registry.tail_calls
                fresh.load(composed, self._compiled[name], maps, calls)
            fresh.pin(self.root / "generations")
        except BaseException:
            fresh.close()
            fresh.unpin(self.root / "generations")
            self._pins.rollback()
            for each in maps.values():
                each.close()
            raise
        self._pins.commit()
        for name in templates:
            maps.pop(name).close()
        self._maps = maps
        self._prepared = fresh
        self._settled = False
        log.info(
            "datapath prepared",
            extra={"programs": len(fresh.programs), "maps": len(maps), "gen": fresh.number},
        )

    def load(self) -> None:
        """Make the prepared generation the one that attachments get."""
        if self._prepared is None:
            raise DatapathError("the datapath is not prepared")
        before, self._generation = self._generation, self._prepared
        self._prepared = None
        if before is not None:
            before.close()
        if self.config.get("enable-tcx", True) is False:
            self.target.tcx = False
        else:
            probe = next((p for p in self.programs.values() if p.kind == "tc"), None)
            self.target.tcx = probe is None or supports_tcx(probe)

    def _register(self) -> None:
        self.registry = self._base.copy()
        self._enums = {}
        if self._hook is None:
            return
        bpf_registration.register(self.registry, self.config)
        self._hook.axoneme_register_datapath(datapath=self.registry, config=self.config)

    def _compile(self) -> None:
        flags = tuple(f"-I{path}" for path in self.registry.include_dirs)
        self.composed = {u.name: compose(self.registry, u) for u in units(self.registry)}
        sources = [
            Source(name, c.text, flags, compose_structs(c.text, self.registry.structs))
            for name, c in self.composed.items()
        ]
        results = compile_all(sources, self.cache_dir)
        self._compiled = dict(zip(self.composed, results, strict=True))
        prune(self.cache_dir)

    def reconciler(self, full_interval: float = 300.0) -> Reconciler[Key, Attachment]:
        """The reconciler that makes :attr:`attachments` true; run it when their rows are all
        there, for its first full pass removes links that no row wants."""
        return Reconciler("attachments", self.attachments, self.target, full_interval=full_interval)

    def settle(self) -> bool:
        """When no link runs an old program any more: finish migrations, sweep pins of older
        generations. Runs after each full pass; ``False`` while old programs are attached."""
        if self._settled or self._generation is None:
            return self._settled
        current = {program.id for program in self.programs.values()}
        if any(attached.prog_id not in current for attached in self.target.attached()):
            return False
        late = self._pins.catch_up()
        self._pins.finish()
        removed = self._pins.sweep(self._maps)
        gen.sweep(self.root / "generations", self._generation.number)
        self._settled = True
        log.info("datapath settled", extra={"copied": late, "removed_maps": removed})
        return True

    # -- what others ask ---------------------------------------------------------------

    @property
    def maps(self) -> Mapping[str, BpfMap]:
        """The shared maps by their C name."""
        return self._maps

    @property
    def programs(self) -> Mapping[str, Program]:
        """The entry programs of the current generation (of the prepared one before ``load``)."""
        current = self._generation or self._prepared
        return current.programs if current else {}

    def map(self, name: str) -> BpfMap:
        """A shared map; raises ``NotFoundError``."""
        try:
            return self._maps[name]
        except KeyError:
            raise NotFoundError(f"there is no map {name}") from None

    def typed(self, name: str, key: type[K], value: type[V]) -> TypedMap[K, V]:
        """A shared map with models bound to its C layout; raises on any mismatch."""
        return TypedMap(self.map(name), key, value)

    def layout(self, struct_name: str) -> Layout:
        """Layout of a C struct that a plugin asked for (``registry.struct``), or that is a key
        or a value of a map."""
        for compiled in self._compiled.values():
            if struct_name in compiled.structs:
                return compiled.layout(struct_name)
            for definition in compiled.maps.values():
                for side, description in (
                    (definition.key, definition.key_desc),
                    (definition.value, definition.value_desc),
                ):
                    if isinstance(description, list) and description[0] == struct_name:
                        return side
        raise NotFoundError(f"no layout of struct {struct_name} is known")

    def enums(self, macro: str) -> EnumTable:
        """Numbers of an X-macro of the headers, such as ``AXO_DROP``."""
        if macro not in self._enums:  # headers are read once: it is asked for at each map change
            self._enums[macro] = find_enum(self.registry.include_dirs, macro)
        return self._enums[macro]

    def stats(self) -> list[ProgramStats]:
        """Run counts and times of the entry programs (see :meth:`enable_statistics`)."""
        return [program_stats(program) for program in self.programs.values()]

    def enable_statistics(self, on: bool = True) -> None:
        """Count runs and nanoseconds of all programs of the machine; costs some 30 ns a run."""
        if on and self._statistics < 0:
            self._statistics = sc.enable_stats()
        elif not on and self._statistics >= 0:
            os.close(self._statistics)
            self._statistics = -1

    def close(self) -> None:
        """Close every descriptor. Pinned maps and links go on forwarding."""
        for generation in (self._generation, self._prepared):
            if generation is not None:
                generation.close()
        self._generation = self._prepared = None
        self._pins.finish()
        for each in self._maps.values():
            each.close()
        self._maps = {}
        self.enable_statistics(False)
