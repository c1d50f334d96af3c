"""Outbound webhooks: tells shops' own servers of orders, offers and streams.

Owns what is told and how: names, bodies, signatures, addresses that may be called, retries. Its
tables are the ledger's. Must never hold up a sale: what it reads was committed with its cause.
Runs in the keeper's process; `livecart.api.webhooks` is its face towards hosts.
"""
