"""Measures servers from outside: ours and what a user would pick instead, in turn."""
