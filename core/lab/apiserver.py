"""A real Kubernetes API server with etcd, on loopback: TLS, RBAC and admission as in a cluster.

The executables come from ``scripts/build-kubernetes`` or ``KUBEBUILDER_ASSETS``. Each is the child
of a guard, a shell that ends it when the pipe to its starter closes: a test run that is killed
leaves no server behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import yaml

from axoneme.core.errors import LabError

SCRIPT: Final = Path(__file__).parents[2] / "scripts" / "build-kubernetes"
TOKEN: Final = "admin-token"  # noqa: S105 - of a server that lives as long as a test
PATIENCE: Final = 60.0
NAMES: Final = ("kube-apiserver", "etcd", "kubectl")
GUARD: Final = """
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ read -r _ && kill -TERM $child && read -r _; kill -KILL $child; } <&3 2>/dev/null &
reader=$!
wait $child
code=$?
kill $reader 2>/dev/null
exit $code
"""
"""A line on its input: end; the end of its input: die at once."""


def executables() -> Path | None:
    """Where they are, if they are there already; nothing is built."""
    given = os.environ.get("KUBEBUILDER_ASSETS", "")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "axoneme"
    for folder in (
        Path(given or "/nonexistent"),
        *sorted(cache.glob("kubernetes-*"), reverse=True),
    ):
        if all((folder / name).is_file() for name in NAMES):
            return folder
    found = shutil.which("kube-apiserver")
    return Path(found).parent if found and shutil.which("etcd") else None


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


class ApiServer:
    """One control plane; may be stopped and started again, its data stay."""

    def __init__(
        self,
        folder: Path,
        binaries: Path,
        address: str = "127.0.0.1",
        ports: tuple[int, int, int] | None = None,
    ) -> None:
        """``ports``: of etcd, of its peers, of the API server; free ones when not given."""
        self.folder, self.binaries, self.address = folder, binaries, address
        self._etcd, self._peer, self.port = ports or free_ports(3)
        self.kubeconfig = folder / "kubeconfig"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://{self.address}:{self.port}"

    def prepare(self) -> None:
        """Keys, certificates, tokens, kubeconfig."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _certificates(self.folder, self.address)
        (self.folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        self.write_kubeconfig(self.kubeconfig, TOKEN)

    def write_kubeconfig(self, path: Path, token: str, url: str = "") -> None:
        """For whoever has the token."""
        cluster = {"server": url or self.url, "certificate-authority": str(self.folder / "ca.crt")}
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(body))

    def start(self) -> None:
        """Both processes; ready when it returns."""
        self.start_etcd()
        self.start_api()

    def start_etcd(self) -> None:
        """The database."""
        client = f"http://127.0.0.1:{self._etcd}"
        peer = f"http://127.0.0.1:{self._peer}"
        self.spawn(
            "etcd", "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}",
        )  # fmt: skip

    def start_api(self) -> None:
        """The API server; returns when it is ready."""
        folder = self.folder
        self.spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-private-key-file={folder / 'server.key'}",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
            "--profiling=false",
        )
        self.wait()

    def spawn(self, name: str, *arguments: str) -> None:
        """Start one of the two; it lives as long as we do."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(self.binaries / name), *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                bufsize=0,
            )

    def wait(self) -> None:
        """Until it is ready."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        request = urllib.request.Request(  # noqa: S310 - https of our own
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise LabError(f"{name} ended: {self._tail(name)}")
            with contextlib.suppress(OSError):
                answer = urllib.request.urlopen(request, context=context, timeout=2)  # noqa: S310
                with answer:
                    if answer.status == 200:
                        return
            time.sleep(0.1)
        raise LabError(f"the API server is not ready: {self._tail('kube-apiserver')}")

    def _tail(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-1500:]

    def kill(self, name: str) -> None:
        """End one process without a warning."""
        _end(self._processes.pop(name))

    def stop(self) -> None:
        """End both."""
        for name in ("kube-apiserver", "etcd"):
            process = self._processes.pop(name, None)
            if process is None:
                continue
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
                process.stdin.write(b"\n")
                process.wait(10)
            _end(process)

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """The real command."""
        command = [str(self.binaries / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout


def _end(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait()


def _certificates(folder: Path, address: str) -> None:
    """An authority, a server's certificate for the address, a key for service accounts."""

    def openssl(*arguments: Any) -> None:
        subprocess.run(
            ["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=folder
        )

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", 30,
            "-subj", "/CN=test-ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=api")
    (folder / "server.ext").write_text(
        f"subjectAltName=IP:{address},IP:127.0.0.1,DNS:kubernetes.default.svc\n"
        "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
        "authorityKeyIdentifier=keyid\n"
    )
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", "server.crt", "-days", 30, "-extfile", "server.ext",
    )  # fmt: skip
    openssl("genrsa", "-out", "sa.key", 2048)
