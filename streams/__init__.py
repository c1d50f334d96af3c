"""Realtime: rooms of WebSocket sessions, a sequenced event log, and the wire protocol.

`streams` carries messages and knows neither stock nor SQL; what it needs from elsewhere is injected
by `livecart`.
"""
