"""The sceptic: drives the public protocol from outside and judges by queries of its own."""
