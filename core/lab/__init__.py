"""The lab: N nodes with real agents, programs and an underlay on one machine; see README.md."""
