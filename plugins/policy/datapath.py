"""The target: one trie per subject identity inside ``axo_policy``.

Changes go in place in an order that never opens a hole, or by a swap (see ``plan``). What does
not fit, or fails half-way, ends in an empty trie: everything drops, and the status says so. The
policy generation is raised once, after all maps hold the change, so that live connections are
checked again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from attrs import frozen

from axoneme.core.datapath.layouts import Layout
from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.typed import Codec, network
from axoneme.core.errors import AxonemeError, DatapathError, ExhaustedError
from axoneme.plugins.policy.entries import Entries, PolicyKey, PolicyValue
from axoneme.plugins.policy.plan import difference, plan
from axoneme.plugins.policy.tables import KNOWN, SubjectPolicy

OUTER: Final = "axo_policy"
STATIC_BITS: Final = 40
"""Peer and direction, which every prefix in the trie includes."""

NO_PREALLOC: Final = 1
"""``BPF_F_NO_PREALLOC``: tries take memory as they grow; the C declares the same."""

MAX_KNOWN: Final = 1 << 18
"""Peers that may be known: more than there are cluster-wide and local identities."""

PACKED: Final = 4096
"""Values, and keys without their peer, that are kept as bytes."""

_SUBJECT = struct.Struct("=I")
_PEER = struct.Struct("=I")


@frozen
class KernelKey:
    """``struct axo_policy_key``."""

    prefixlen: int
    peer: int
    dir: int
    proto: int
    port: int = network()


@frozen
class KernelValue:
    """``struct axo_policy_value``."""

    precedence: int
    cookie: int
    deny: int
    """``AXO_POLICY_DENY_*``: 1 yes; 2 who is not known."""
    prefix_len: int
    proxy_port: int = network(default=0)


class Codecs:
    """Entries to bytes and back, bound to the C layout of the tries.

    Peers that the same rules select have the same values and the same keys but for the peer, so
    what is common is packed once.
    """

    def __init__(self, key: Layout, value: Layout) -> None:
        self._key: Codec[KernelKey] = Codec(KernelKey, key)
        self._value: Codec[KernelValue] = Codec(KernelValue, value)
        self._peer_at = next(f.offset for f in key.fields if f.name == "peer")
        self._around_peer = lru_cache(PACKED)(self._pack_around_peer)
        self.value = lru_cache(PACKED)(self._pack_value)
        """Bytes of a value."""
        self.sizes = key.size, value.size

    def key(self, key: PolicyKey) -> bytes:
        """Bytes of a key."""
        head, tail = self._around_peer(*key[1:])
        return head + _PEER.pack(key.peer) + tail

    def _pack_around_peer(
        self, direction: int, protocol: int, port: int, bits: int
    ) -> tuple[bytes, bytes]:
        raw = self._key.pack(KernelKey(STATIC_BITS + bits, 0, direction, protocol, port))
        return raw[: self._peer_at], raw[self._peer_at + _PEER.size :]

    def _pack_value(self, value: PolicyValue) -> bytes:
        return self._value.pack(
            KernelValue(
                value.precedence,
                value.cookie,
                1 if value.deny else 2 if value.known_only else 0,
                value.prefix_len,
                value.proxy_port,
            )
        )

    def entry(self, key: bytes, value: bytes) -> tuple[PolicyKey, PolicyValue]:
        """The entry behind bytes."""
        k, v = self._key.unpack(key), self._value.unpack(value)
        return (
            PolicyKey(k.peer, k.dir, k.proto, k.port, k.prefixlen - STATIC_BITS),
            PolicyValue(
                v.precedence,
                v.deny == 1,
                v.cookie,
                v.prefix_len,
                v.proxy_port,
                known_only=v.deny == 2,
            ),
        )


class PolicyMaps:
    """:class:`axoneme.core.reconcile.Target` for rows of table ``policy_entries``."""

    name = "policy"

    def __init__(
        self,
        outer: Callable[[], BpfMap],
        layouts: Callable[[], tuple[Layout, Layout]],
        bump: Callable[[], object],
        max_entries: int,
        *,
        looks: int = 2,
    ) -> None:
        self._looks = looks
        self._outer_map, self._layouts, self._bump = outer, layouts, bump
        self._max = max_entries
        self._inner: dict[int, BpfMap] = {}
        self._held: dict[int, tuple[int, dict[PolicyKey, PolicyValue]]] = {}
        self._lazy: Codecs | None = None
        self._passed = False
        self.overflowed: set[int] = set()
        """Identities whose entries the kernel did not take: they drop everything."""
        self.swaps = 0
        self.patches = 0

    # Target

    def apply(
        self, upserts: Mapping[int, SubjectPolicy], deletes: Mapping[int, SubjectPolicy]
    ) -> Mapping[int, Exception]:
        """Program changed subjects, forget the gone ones, then raise the generation.

        Marks of known peers go before anything else and come after it. After an exception the
        next full pass, which then finds nothing to do, raises the generation in any case.
        """
        try:
            return self._apply(upserts, deletes)
        except BaseException:
            self._passed = False
            raise

    def _apply(
        self, upserts: Mapping[int, SubjectPolicy], deletes: Mapping[int, SubjectPolicy]
    ) -> Mapping[int, Exception]:
        failed: dict[int, Exception] = {}
        known = upserts.get(KNOWN)
        changed = self._hide(known) if known is not None else False
        for identity, row in upserts.items():
            if identity == KNOWN:
                continue
            try:
                changed |= self._program(identity, row)
            except (AxonemeError, OSError) as error:
                changed = True
                failed[identity] = self._close(identity, error)
        for identity in deletes:
            try:
                self._forget(identity)
                changed = True
            except (AxonemeError, OSError) as error:
                failed[identity] = error
        if known is not None:
            try:
                self._program(KNOWN, known)  # lets more pass: live flows need not be asked
            except (AxonemeError, OSError) as error:
                failed[KNOWN] = self._close(KNOWN, error)
        if changed:
            self._bump()
        return failed

    def resync(self, desired: Mapping[int, SubjectPolicy]) -> Mapping[int, Exception]:
        """Read every trie back, repair what differs, sweep those of nobody.

        The first pass raises the generation in any case: a predecessor may have been killed
        between its change and that.
        """
        outer = self._outer_map()
        for inner in self._inner.values():
            inner.close()
        self._inner.clear()
        self._held.clear()
        swept, self._passed = not self._passed, False
        for raw in list(outer.keys()):
            identity = _SUBJECT.unpack(raw)[0]
            if identity not in desired:
                outer.delete(raw)
                swept = True
                continue
            inner_map = outer.get_map(raw)
            if inner_map is not None:
                self._inner[identity] = inner_map
                self._held[identity] = (0, self._read(inner_map))
        failed = self.apply(desired, {})
        if swept:
            self._bump()
        self._passed = True
        return failed

    # One subject

    def held(self, identity: int) -> Entries:
        """The entries that the kernel holds for a subject, as far as known here."""
        return self._held.get(identity, (0, {}))[1]

    def read(self, identity: int) -> Entries | None:
        """The entries in the kernel now; ``None`` without a trie. For views and tests."""
        # A descriptor of its own: the reconciler's thread may be using the other one.
        outer = BpfMap.by_id(self._outer_map().info.id)
        if outer is None:
            return None
        with outer:
            inner = outer.get_map(_SUBJECT.pack(identity))
        if inner is None:
            return None
        with inner:
            return self._read(inner)

    def _hide(self, row: SubjectPolicy) -> bool:
        """Take the marks away that ``row`` has not; whether there were any."""
        inner, held = self._inner.get(KNOWN), self._held.get(KNOWN)
        if inner is None or held is None:
            return False
        revision, old = held
        chained = revision and revision == row.base
        gone = [k for k in (row.deletes if chained else old) if k in old and k not in row.entries]
        inner.delete_batch(self._codecs.key(key) for key in gone)
        for key in gone:
            del old[key]
        return bool(gone)

    def _program(self, identity: int, row: SubjectPolicy) -> bool:
        inner, held = self._inner.get(identity), self._held.get(identity)
        if inner is None or held is None:
            self._swap(identity, row.revision, row.entries)
            return True
        revision, old = held
        if revision == row.revision and revision:
            return False
        if revision == row.base and revision and not row.overflow:
            upserts = dict(row.upserts)
            deletes = {k: v for k, v in row.deletes.items() if k in old}
        else:
            upserts, deletes = difference(old, row.entries)
        steps = plan(old, upserts, deletes, looks=self._looks)
        if steps.swap:
            self._swap(identity, row.revision, row.entries)
            return True
        if not steps.empty:
            self.patches += 1
            self._write(inner, dict(steps.first))
            self._write(inner, dict(steps.then))
            inner.delete_batch(self._codecs.key(key) for key in steps.last)
            old.update(upserts)
            for key in steps.last:
                old.pop(key, None)
        self._held[identity] = (row.revision, old)
        self.overflowed.discard(identity)
        return not steps.empty

    def _swap(self, identity: int, revision: int, entries: Entries) -> None:
        """Fill a new trie and put it in the place of the old one, in one update."""
        key_size, value_size = self._codecs.sizes
        fresh = BpfMap.create(
            "lpm_trie",
            key_size,
            value_size,
            MAX_KNOWN if identity == KNOWN else self._max,
            NO_PREALLOC,
            name="axo_policy_in",
        )
        try:
            self._write(fresh, entries)
            self._outer_map().set_map(_SUBJECT.pack(identity), fresh)
        except BaseException:
            fresh.close()
            raise
        old = self._inner.pop(identity, None)
        if old is not None:
            old.close()
        self._inner[identity] = fresh
        self._held[identity] = (revision, dict(entries))
        self.overflowed.discard(identity)
        self.swaps += 1

    def _close(self, identity: int, error: Exception) -> Exception:
        """Something went wrong: nothing passes for this identity until a later try works.

        Without the old trie, not even an empty one in its place, the programs drop as well.
        """
        if isinstance(error, ExhaustedError):
            self.overflowed.add(identity)
        try:
            self._swap(identity, 0, {})
        except (AxonemeError, OSError):
            self._forget(identity)
        if isinstance(error, ExhaustedError):
            self.overflowed.add(identity)
            return ExhaustedError(
                f"policy of identity {identity} does not fit: {error.message}",
                hint="raise bpf-policy-map-max; until then it drops everything",
            )
        if isinstance(error, AxonemeError):
            return error
        return DatapathError(f"policy of identity {identity}: {error}")

    def _forget(self, identity: int) -> None:
        self._outer_map().delete(_SUBJECT.pack(identity))
        inner = self._inner.pop(identity, None)
        if inner is not None:
            inner.close()
        self._held.pop(identity, None)
        self.overflowed.discard(identity)

    def _write(self, inner: BpfMap, entries: Entries) -> None:
        codecs = self._codecs
        inner.update_batch((codecs.key(k), codecs.value(v)) for k, v in entries.items())

    def _read(self, inner: BpfMap) -> dict[PolicyKey, PolicyValue]:
        return dict(self._codecs.entry(key, value) for key, value in inner.items())

    @property
    def _codecs(self) -> Codecs:
        if self._lazy is None:
            self._lazy = Codecs(*self._layouts())
        return self._lazy
