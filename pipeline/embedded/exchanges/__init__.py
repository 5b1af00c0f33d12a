"""Exchanges and the ways they choose. Pure: a key and headers in, destinations out."""
