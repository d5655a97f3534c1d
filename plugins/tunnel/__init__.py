"""Pods reach pods of other nodes through VXLAN or Geneve, the source identity in the VNI."""
