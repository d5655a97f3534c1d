"""Endpoints: one per pod interface, from the CNI request to the removal; see README.md."""
