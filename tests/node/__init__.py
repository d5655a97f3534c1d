"""A real Kubernetes on this machine: control plane, kubelets, containerd, our chart and image."""
