"""Selling: holds in Redis, orders in Postgres, and the order of steps between the two.

`orders` knows no sockets and no wire messages; `livecart` translates between the two.
"""
