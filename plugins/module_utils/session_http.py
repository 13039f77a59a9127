# Copyright the remediate authors
# SPDX-License-Identifier: Apache-2.0
"""One HTTP request to a session service, answered with a status and JSON; never raises on a refusal."""

from __future__ import annotations

import email.utils
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

#: No honest answer of a session service is longer.
BODY_LIMIT = 1 << 20


class Answer:
    """What a service said: `status` 0 means that it said nothing, and `trouble` says why."""

    def __init__(self, status: int, body: Any = None, trouble: str = "", date: float = 0.0) -> None:
        self.status = status
        self.body = body
        self.trouble = trouble
        #: The server's own clock, or ours where it does not tell.
        self.date = date or time.time()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field of a JSON object."""
        return self.body.get(name, default) if isinstance(self.body, dict) else default

    @property
    def words(self) -> str:
        """Return the answer for a person, without a byte of its body: that may echo a token."""
        return f"HTTP {self.status}" if self.status else f"no answer ({self.trouble})"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer, not an instruction to carry a token elsewhere."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


# No proxy from the environment either: the look must take the path it names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def ask(
    method: str,
    url: str,
    timeout: float,
    token: str | None = None,
    form: Mapping[str, str] | None = None,
    data: Any = None,
) -> Answer:
    """Send one request with an optional bearer token and a form or JSON body."""
    headers = {"Accept": "application/json"}
    body = None
    if token is not None:
        headers["Authorization"] = "Bearer " + token
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = urllib.parse.urlencode(form).encode()
    elif data is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(data).encode()
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        return Answer(0, trouble="the URL is neither http nor https")
    request = urllib.request.Request(url, data=body, headers=headers, method=method)  # noqa: S310
    try:
        with _OPENER.open(request, timeout=timeout) as reply:
            return _answer(reply.status, reply)
    except urllib.error.HTTPError as refused:
        with refused:
            return _answer(refused.code, refused)
    except urllib.error.URLError as failed:
        return Answer(0, trouble=str(getattr(failed.reason, "strerror", None) or failed.reason))
    except (OSError, ValueError) as failed:
        return Answer(0, trouble=type(failed).__name__)


def _answer(status: int, reply: Any) -> Answer:
    raw = reply.read(BODY_LIMIT)
    told = email.utils.parsedate_to_datetime(reply.headers["Date"]) if reply.headers.get("Date") else None
    date = told.timestamp() if told else 0.0
    try:
        return Answer(status, json.loads(raw) if raw else None, date=date)
    except ValueError:
        return Answer(status, None, date=date)
