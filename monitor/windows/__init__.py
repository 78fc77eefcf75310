"""Samples in, arrays out: the current window from the database, the reference from stored samples or a sample file."""
