"""The packet path that belongs to no feature: C sources, read as package data."""
