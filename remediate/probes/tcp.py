"""Asks whether something listens."""

from __future__ import annotations

import socket

from remediate.model.plan import VerifySpec
from remediate.model.result import Observation
from remediate.probes.address import host_and_port, shown


class TcpProbe:
    """Healthy is a connection that is accepted."""

    def look(self, spec: VerifySpec, *, address: str, timeout: float) -> Observation:  # noqa: ARG002 - the port's
        """One connection to `host:port`, closed at once."""
        try:
            host, port = host_and_port(address)
            with socket.create_connection((host, port), timeout=timeout):
                ok, observed = True, "connected"
        except TimeoutError:
            ok, observed = False, f"no answer within {timeout:.1f} s"
        except (OSError, ValueError) as error:
            ok, observed = False, str(error)
        return Observation(name=f"tcp {shown(address)}", expected="a connection", observed=observed, ok=ok)
