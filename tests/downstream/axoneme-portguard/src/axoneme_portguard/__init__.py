"""Drops what pods send to forbidden ports and counts it: a plugin of a stranger."""
