"""The outcome for people and for machines: a table, and JUnit's XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from typing import Any

from axoneme.core.connectivity.model import Outcome


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For ``-o json``."""
    return [
        {
            "name": o.scenario.name,
            "theme": o.scenario.theme,
            "state": o.state,
            "checks": o.attempts,
            "seconds": round(o.seconds, 3),
            "problems": o.problems,
        }
        for o in outcomes
    ]


def summary(outcomes: Sequence[Outcome]) -> list[tuple[str, int, int, int, int, str]]:
    """By theme and together: passed, failed, skipped, checks, time."""
    found = []
    themes = list(dict.fromkeys(o.scenario.theme for o in outcomes))
    for theme in (*themes, ""):
        part = [o for o in outcomes if theme in ("", o.scenario.theme)]
        states = Counter(o.state for o in part)
        found.append(
            (
                theme or "all",
                states["passed"],
                states["failed"],
                states["skipped"],
                sum(o.attempts for o in part),
                f"{sum(o.seconds for o in part):.1f} s",
            )
        )
    return found


def junit(outcomes: Sequence[Outcome], world: str) -> str:
    """One suite, a case for each scenario (the format that Jenkins and GitLab read)."""
    states = Counter(o.state for o in outcomes)
    seconds = sum(o.seconds for o in outcomes)
    counts = {
        "tests": str(len(outcomes)),
        "failures": str(states["failed"]),
        "skipped": str(states["skipped"]),
        "time": f"{seconds:.3f}",
    }
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": f"connectivity {world}", **counts})
    for o in outcomes:
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "classname": f"connectivity.{o.scenario.theme}",
                "name": o.scenario.name,
                "time": f"{o.seconds:.3f}",
            },
        )
        if o.state == "failed":
            failure = ET.SubElement(case, "failure", {"message": o.problems[0]})
            failure.text = "\n".join(o.problems)
        elif o.state == "skipped":
            ET.SubElement(case, "skipped", {"message": o.problems[0]})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
