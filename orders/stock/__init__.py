"""The gate in Redis: who may try to buy. It may be lost at any time; Postgres holds the truth."""
