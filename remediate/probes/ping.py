"""Asks whether a host answers at all."""

from __future__ import annotations

import math
import shutil
import subprocess

from remediate.model.plan import VerifySpec
from remediate.model.result import Observation
from remediate.probes.address import is_host, shown


class PingProbe:
    """Healthy is one echo reply."""

    def __init__(self, binary: str = "ping") -> None:
        self._binary = binary

    def look(self, spec: VerifySpec, *, address: str, timeout: float) -> Observation:  # noqa: ARG002 - the port's
        """One echo request, sent by the system's own `ping`: raw sockets need privileges that it has."""
        ok, observed = self._ping(address, timeout)
        return Observation(name=f"ping {shown(address)}", expected="an echo reply", observed=observed, ok=ok)

    def _ping(self, host: str, timeout: float) -> tuple[bool, str]:
        if not is_host(host):
            return False, f"{shown(host)!r} is not one host name or address"
        binary = shutil.which(self._binary)
        if binary is None:
            return False, f"this machine has no `{self._binary}`; install it (iputils-ping)"
        seconds = str(max(1, math.ceil(timeout)))
        try:
            ended = subprocess.run(  # noqa: S603 - a fixed list; the host cannot be an option, and follows `--`
                [binary, "-n", "-c", "1", "-W", seconds, "--", host],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
                env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        except subprocess.TimeoutExpired:
            return False, f"no answer within {timeout:.1f} s"
        except OSError as error:
            return False, f"`{binary}` could not be started: {error.strerror}"
        if ended.returncode == 0:
            return True, "answered"
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        return False, said[-1] if said else "no answer"
