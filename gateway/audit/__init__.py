"""The ledger: what is written down about every call, chained so that a change shows. Knows no HTTP."""
