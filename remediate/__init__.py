"""Guarded, verified and audited remediation of platform faults."""

__version__ = "0.1.0"
