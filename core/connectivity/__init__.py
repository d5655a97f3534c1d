"""Named scenarios that show whether a cluster's network does what it should; see README.md."""
