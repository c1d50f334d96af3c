"""The HTTP side of the protocol: one noun a file, one table of operations."""
