"""The ipcache: which identity stands behind an address, and on which node; see README.md."""
