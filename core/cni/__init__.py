"""The CNI executable and its server side; see README.md."""
