"""Pods reach pods of other nodes by plain routing, with direct node routes where asked."""
