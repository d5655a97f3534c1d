"""Images made here: ours by ``deploy/image/build``, and small ones out of a static busybox."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.node.machine import PAUSE

ROOT: Final = Path(__file__).parents[2]
BUSYBOX: Final = Path("/usr/bin/busybox")
TOOLS: Final = "axoneme.test/busybox:1"
OURS: Final = "localhost/axoneme"


def build_ours(folder: Path, version: str = "0.1.0") -> Path:
    """The product's image as an archive; bases and wheels are cached by the script."""
    target = folder / f"axoneme-{version}.tar"
    subprocess.run(
        [ROOT / "deploy/image/build", "--tag", f"{OURS}:{version}", "--output", target],
        check=True, cwd=ROOT,
    )  # fmt: skip
    return target


def retag(archive: Path, folder: Path, version: str) -> Path:
    """The same image by another name, for an upgrade: with one more layer, so that it differs."""
    target = folder / f"axoneme-{version}.tar"
    layer = tar({"etc/axoneme-release": version.encode()})
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        manifest = json.load(old.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(old.extractfile(manifest[0]["Config"]))  # type: ignore[arg-type]
        for member in old.getmembers():
            if member.name not in ("manifest.json", manifest[0]["Config"], "repositories"):
                new.addfile(member, old.extractfile(member) if member.isfile() else None)
        config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        config.pop("history", None)
        body = json.dumps(config).encode()
        name = f"{hashlib.sha256(body).hexdigest()}.json"
        layers = [*manifest[0]["Layers"], "release.tar"]
        index = [{"Config": name, "RepoTags": [f"{OURS}:{version}"], "Layers": layers}]
        files = {name: body, "release.tar": layer, "manifest.json": json.dumps(index).encode()}
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return target


def small(folder: Path) -> list[Path]:
    """The pause image and one with busybox's tools."""
    found = []
    for tag, command in (
        (PAUSE, ["/bin/busybox", "sleep", "2147483647"]),
        (TOOLS, ["/bin/sh"]),
    ):
        target = folder / f"{tag.partition('/')[2].replace(':', '-')}.tar"
        layer = tar({"bin/busybox": BUSYBOX.read_bytes(), "tmp/.keep": b""}, links=applets())
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
        index = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
        target.write_bytes(
            tar(
                {
                    "layer.tar": layer,
                    "config.json": json.dumps(config).encode(),
                    "manifest.json": json.dumps(index).encode(),
                }
            )
        )
        found.append(target)
    return found


def applets() -> dict[str, str]:
    """Links to busybox by the names of its tools."""
    done = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    return {f"bin/{name}": "busybox" for name in done.stdout.split() if name != "busybox"}


def tar(files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> bytes:
    """An archive of executable files and symbolic links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
        for name, to in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, to
            archive.addfile(info)
    return out.getvalue()
