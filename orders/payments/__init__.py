"""Payments: the port to whoever moves money, and what makes the money follow the orders."""
