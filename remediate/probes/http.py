"""Asks a web service whether it is healthy."""

from __future__ import annotations

from remediate.model.plan import VerifySpec
from remediate.model.result import Observation
from remediate.probes.address import shown
from remediate.probes.fetch import Answer, FetchFailed, fetch

#: Most of an answer that is read and searched.
BODY_LIMIT = 64 * 1024


class HttpProbe:
    """Healthy is the expected status with the expected text in the first 64 KiB of the body."""

    def look(self, spec: VerifySpec, *, address: str, timeout: float) -> Observation:
        """One GET; redirects are not followed, and TLS certificates must verify."""
        expected = f"status {spec.expect_status}"
        if spec.expect_text:
            expected += f" with {spec.expect_text!r}"
        try:
            answer = fetch(address, timeout=timeout, limit=BODY_LIMIT)
        except FetchFailed as error:
            ok, observed = False, str(error)
        else:
            ok, observed = _judge(spec, answer)
        return Observation(name=f"http {shown(address)}", expected=expected, observed=observed, ok=ok)


def _judge(spec: VerifySpec, answer: Answer) -> tuple[bool, str]:
    observed = f"status {answer.status}"
    if answer.location:
        observed += f", pointing to {answer.location!r} (not followed)"
    if answer.status != spec.expect_status:
        return False, observed
    if spec.expect_text and spec.expect_text.encode() not in answer.body:
        return False, f"{observed} without {spec.expect_text!r}" + (
            " in its first 64 KiB" if answer.cut else ""
        )
    return True, observed
