"""A node's configuration: the ConfigMap, what CiliumNodeConfigs say instead, and its changes."""
