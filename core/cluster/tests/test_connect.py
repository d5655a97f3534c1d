"""Which cluster a command speaks to."""

from __future__ import annotations

from pathlib import Path

import pytest

from axoneme.core.cluster.connect import Place
from axoneme.core.errors import ConfigError


def test_the_kubeconfig_is_found_as_kubectl_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given, of the environment, the user's own; without any a hint, not a key of the agent's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(ConfigError) as error:
        Place().run(lambda store: store.list("Pod"))
    assert "no cluster is named" in str(error.value) and "KUBECONFIG" in str(error.value.hint)
    own = tmp_path / ".kube" / "config"
    own.parent.mkdir()
    own.write_text("")
    assert Place().file == str(own)
    monkeypatch.setenv("KUBECONFIG", "/one:/two")
    assert Place().file == "/one"
    assert Place(kubeconfig="/given").file == "/given"
