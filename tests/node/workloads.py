"""What runs in the cluster of these tests, out of busybox."""

from __future__ import annotations

from typing import Final

from tests.node.images import TOOLS

WEB: Final = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway,
         labelSelector: {{matchLabels: {{app: web}}}}}}
      containers:
      - name: c
        image: {TOOLS}
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir -p /www; hostname > /www/index.html; nc -ll -p 9000 -e cat &
          echo started; exec httpd -f -v -p 8080 -h /www']
        ports: [{{containerPort: 8080}}, {{containerPort: 9000}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 2}}
        livenessProbe: {{tcpSocket: {{port: 8080}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {{app: web}}
  ports:
  - {{name: http, port: 80, targetPort: 8080, nodePort: 30080}}
  - {{name: echo, port: 9000, targetPort: 9000}}
"""


def tools_pod(name: str, node: str = "", *, host: bool = False, **labels: str) -> str:
    """A pod to run commands in."""
    where = f"  nodeName: {node}\n" if node else ""
    chosen = ", ".join(f"{k}: {v}" for k, v in (labels or {"app": name}).items())
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{chosen}}}}}
spec:
{where}  hostNetwork: {str(host).lower()}
  terminationGracePeriodSeconds: 0
  tolerations: [{{operator: Exists}}]
  containers:
  - {{name: c, image: "{TOOLS}", imagePullPolicy: Never, command: [sleep, "1000000"]}}
"""


JOB: Final = f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: fifty}}
spec:
  completions: 50
  parallelism: 10
  template:
    metadata: {{labels: {{app: fifty}}}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: {TOOLS}
        imagePullPolicy: Never
        command: [sh, -c, 'timeout 5 wget -qO- http://WEB/ && ip -4 addr show dev eth0 | grep inet']
"""

ONLY_FRIENDS: Final = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: friend}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""
