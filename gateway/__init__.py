"""Gatewatch's gateway: authenticates callers, audits every call, runs the detector from sealed weights, samples."""
