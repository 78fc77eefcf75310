"""The development command: the one place that creates keys, certificates and ledgers without being asked for each."""
