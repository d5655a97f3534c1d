"""``python -m axoneme.core.chart [FOLDER]``: write the chart's generated files."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from axoneme.core.boot import boot
from axoneme.core.chart.keys import chart_keys
from axoneme.core.chart.schema import chart_schema


def generated(folder: Path) -> dict[Path, str]:
    """Both files of the chart in ``folder``, by the options of the built-in plugins."""
    config, _ = boot({"plugins": ""}, {}, None, None, check=False)
    values = yaml.safe_load((folder / "values.yaml").read_text())
    return {
        folder / "files" / "keys.yaml": chart_keys(config.registry),
        folder / "values.schema.json": chart_schema(config.registry, values),
    }


if __name__ == "__main__":
    chart = Path(sys.argv[1] if len(sys.argv) > 1 else "deploy/helm/axoneme")
    for path, text in generated(chart).items():
        path.write_text(text)
