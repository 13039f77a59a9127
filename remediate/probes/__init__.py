"""Looks at a target from this process, which never made the change."""

from __future__ import annotations

from remediate.errors import UsageError
from remediate.ports import Probe
from remediate.probes.address import render_address
from remediate.probes.http import HttpProbe
from remediate.probes.ping import PingProbe
from remediate.probes.sampling import sample
from remediate.probes.segment import SegmentProbe
from remediate.probes.tcp import TcpProbe

__all__ = ["PROBES", "probe_for", "render_address", "sample"]

#: Every native probe by the name a plan calls it; `playbook` is the executor's.
PROBES: dict[str, type[Probe]] = {
    "http": HttpProbe,
    "tcp": TcpProbe,
    "ping": PingProbe,
    "segment": SegmentProbe,
}


def probe_for(name: str) -> Probe:
    """The probe of that name; UsageError with the names there are."""
    if name not in PROBES:
        raise UsageError(f"there is no probe {name!r}; there are {', '.join(sorted(PROBES))}")
    return PROBES[name]()
