"""Streams, products, pins and standings: what a shop shows, and who may be there."""
