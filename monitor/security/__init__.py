"""What in the ledger looks like misuse: pure rules, each in a file named for what it detects.

Rules: no I/O and no clock; a rule sees each record once, in the order of its ledger, and holds a bounded number of
keys; what it forgets for lack of room is counted, and where forgetting could hide an attack it is a finding itself.
"""
