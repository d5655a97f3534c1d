"""What the kernel counts: runs of programs, memory of maps."""

from __future__ import annotations

from attrs import frozen

from axoneme.core.datapath.loader import Program, verified_insns


@frozen
class ProgramStats:
    """``runs`` and ``nanoseconds`` since loading; ``verified`` instructions were walked."""

    name: str
    id: int
    tag: str
    insns: int
    verified: int
    runs: int
    nanoseconds: int


def program_stats(program: Program) -> ProgramStats:
    """Ask the kernel."""
    runs, nanoseconds = program.stats()
    return ProgramStats(
        program.name,
        program.id,
        program.tag,
        program.insns,
        verified_insns(program.fd),
        runs,
        nanoseconds,
    )
