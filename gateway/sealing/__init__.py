"""Weights and kept images at rest: the sealed model file, its keys, and the export that feeds it.

Rules: opening happens in memory and plaintext is never written; every refusal is one message with a reason from
a closed set; nothing here knows how an opened model is run. FORMAT.md documents the file for other readers.
"""
