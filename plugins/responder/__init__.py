"""Answers the neighbour requests of pods in the packet path."""
