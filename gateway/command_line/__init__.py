"""Parsing of the larger command groups; gateway.commands does the work."""
