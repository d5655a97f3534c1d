"""``axoneme install | upgrade | uninstall``: the chart of this version, by helm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from axoneme.core.cli.cluster_options import cluster_options

if TYPE_CHECKING:
    from axoneme.core.cluster.connect import Place

F = TypeVar("F", bound=Callable[..., Any])


def _chart_options(function: F) -> F:
    for option in reversed(
        (
            click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A value."),
            click.option(
                "-f",
                "--values",
                multiple=True,
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="A file of values.",
            ),
            click.option(
                "--chart-directory", type=click.Path(path_type=Path), help="Another chart."
            ),
            click.option("--helm", default="helm", show_default=True, help="The helm command."),
            click.option("--dry-run", is_flag=True, help="Print the objects, change nothing."),
            click.option("--dry-run-helm-values", is_flag=True, help="Print the values only."),
            click.option("--wait", is_flag=True, help="Until everything runs."),
            click.option(
                "--wait-duration", default="5m", show_default=True, help="How long to wait."
            ),
        )
    ):
        function = option(function)
    return function


@click.command("install")
@_chart_options
@cluster_options
def install(*, place: Place, **given: Any) -> int:
    """Install Axoneme into a cluster.

    What is not given is found out: where the API server is, if kube-proxy is to
    be replaced.

    \b
    axoneme install --wait
    axoneme install --set kubeProxyReplacement=true --set ipv6.enabled=true
    axoneme install -f values.yaml --dry-run
    """
    return _apply("install", place, given)


@click.command("upgrade")
@click.option("--reuse-values", is_flag=True, help="Keep the values of the release.")
@click.option("--reset-values", is_flag=True, help="Forget the values of the release.")
@click.option(
    "--reset-then-reuse-values", is_flag=True, help="New defaults, and the release's values."
)
@_chart_options
@cluster_options
def upgrade(
    *,
    place: Place,
    reuse_values: bool,
    reset_values: bool,
    reset_then_reuse_values: bool,
    **given: Any,
) -> int:
    """Bring an installation to this version, or change its values.

    Connections go on: programs and maps stay while agents are replaced.

    \b
    axoneme upgrade --wait
    axoneme upgrade --reuse-values --set hostFirewall.enabled=true
    """
    chosen = [
        name
        for name, on in (
            ("--reuse-values", reuse_values),
            ("--reset-values", reset_values),
            ("--reset-then-reuse-values", reset_then_reuse_values),
        )
        if on
    ]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)}: only one of them")
    return _apply("upgrade", place, given, tuple(chosen) or ("--reset-then-reuse-values",))


@click.command("uninstall")
@click.option("--helm", default="helm", show_default=True, help="The helm command.")
@click.option("--wait", is_flag=True, help="Until everything is gone.")
@cluster_options
def uninstall(*, place: Place, helm: str, wait: bool) -> None:
    """Remove agents and operator; definitions, objects and running pods' network stay.

    \b
    axoneme uninstall --wait
    """
    from axoneme.core.cluster.helm import RELEASE, Helm

    Helm(place, helm).run("uninstall", RELEASE, *(["--wait"] if wait else []))
    click.echo("removed; pods that run keep their network, new ones need another CNI plugin")


def _apply(command: str, place: Place, given: dict[str, Any], flags: tuple[str, ...] = ()) -> int:
    from axoneme.core.cluster.helm import Helm, chart_folder

    helm = Helm(place, given["helm"])
    chart = chart_folder(given["chart_directory"])
    extra = _found_out(place, given) if command == "install" else {}
    if given["dry_run_helm_values"]:
        import yaml

        from axoneme.core.cluster.helm import wanted

        click.echo(
            yaml.safe_dump({**extra, **wanted(given["values"], given["settings"])}), nl=False
        )
        return 0
    for name, value in extra.items():
        click.echo(f"found out: {name}={value}", err=True)
    arguments = [*flags, *(["--create-namespace"] if command == "install" else [])]
    if given["dry_run"]:
        arguments.append("--dry-run")
    text = helm.apply(
        command, chart, values=given["values"], settings=given["settings"], extra=extra,
        flags=arguments,
    )  # fmt: skip
    click.echo(text, nl=False)
    if given["dry_run"] or not given["wait"]:
        return 0
    from axoneme.core.cli.cluster_status import show
    from axoneme.core.cli.output import Output
    from axoneme.core.option_types import PARSERS

    seconds = float(PARSERS["duration"](given["wait_duration"]))
    return show(place, Output(), wait=True, seconds=seconds)


def _found_out(place: Place, given: dict[str, Any]) -> dict[str, Any]:
    """Where the API server is, for agents that are to replace what leads to it."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    from axoneme.core.cluster.helm import wanted

    values = wanted(given["values"], given["settings"])
    replaced = str(values.get("kubeProxyReplacement", "")).lower() == "true"
    if not replaced or values.get("k8sServiceHost"):
        return {}
    url = urlsplit(place.run(_server))
    host = url.hostname or ""
    try:
        if ip_address(host).is_loopback:
            return {}
    except ValueError:
        if host == "localhost":
            return {}
    return {"k8sServiceHost": host, "k8sServicePort": str(url.port or 443)}


async def _server(store: Any) -> str:
    return str(store.client.access.server)
