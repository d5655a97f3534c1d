"""A plugin that notes what happens on a node."""
