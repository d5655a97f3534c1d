"""Fixtures of packet tests."""

from axoneme.core.testing.packet_fixtures import *  # noqa: F403 - pytest finds fixtures by name
