"""The ledger in Postgres: which orders exist. The truth, and the second line of every rule."""
