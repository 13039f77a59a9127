"""Frozen values of the domain; nothing in here does I/O."""
