"""The audit trail: an append-only Merkle log that is written before anything is done.

`store` writes it, `verify` checks it without sharing a line of code with the writer.
"""
