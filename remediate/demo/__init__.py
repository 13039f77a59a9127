"""The whole loop on one machine: a fault, its recovery, a refusal, a rollback, a trail that tells."""

from remediate.demo.script import play

__all__ = ["play"]
