"""Deletions that waited for the agent."""

from __future__ import annotations

import json
import os
from pathlib import Path

from axoneme.core.cni.queue import DeleteQueue


def test_the_oldest_comes_first_and_rubbish_goes(tmp_path: Path) -> None:
    """By the time of the file, whatever its name; what cannot be read is removed."""
    queue = DeleteQueue(tmp_path)
    assert queue.pending() == []
    queue.folder.mkdir()
    for age, name in enumerate(("b", "c", "a")):
        path = queue.folder / f"{name}.json"
        path.write_text(json.dumps({"attachment_id": f"{name}:eth0"}))
        os.utime(path, (1000 + age, 1000 + age))
    (queue.folder / "bad.json").write_text("{")
    waiting = queue.pending()
    assert [x.attachment_id for x in waiting] == ["b:eth0", "c:eth0", "a:eth0"]
    assert not (queue.folder / "bad.json").exists()
    for item in waiting:
        queue.done(item)
    assert queue.pending() == []
