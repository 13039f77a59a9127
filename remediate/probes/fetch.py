"""One bounded GET: one answer, no redirects, no proxies, and an end in time however slow the server is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from remediate.probes.address import is_host, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said."""

    status: int
    #: The body up to the limit.
    body: bytes
    #: The body was longer than the limit.
    cut: bool
    #: Where a redirect pointed to; empty when the answer is none.
    location: str


class FetchFailed(Exception):
    """There was no answer; `str()` is a sentence."""


def fetch(address: str, *, timeout: float, limit: int) -> Answer:
    """The answer to a GET within `timeout` seconds altogether, or FetchFailed."""
    import asyncio  # late: only a probe needs a loop
    from concurrent.futures import ThreadPoolExecutor

    _check_address(address)
    try:
        # A loop of its own: its time-out bounds the whole exchange, where a blocking client's would start
        # again with every byte that a stuck server drips. In a thread of its own: the caller may have a loop.
        with ThreadPoolExecutor(max_workers=1) as aside:
            return aside.submit(asyncio.run, _get_in_time(address, timeout, limit)).result()
    except TimeoutError as error:
        raise FetchFailed(f"no answer within {timeout:.1f} s") from error


async def _get_in_time(address: str, timeout: float, limit: int) -> Answer:
    import asyncio

    async with asyncio.timeout(timeout):
        return await _get(address, limit)


async def _get(address: str, limit: int) -> Answer:
    import ssl

    import httpx  # late: nothing but a probe needs it

    try:
        async with (
            httpx.AsyncClient(
                verify=ssl.create_default_context(),  # the system's own authorities
                follow_redirects=False,  # another address is not what was to be looked at
                trust_env=False,  # a proxy would answer for the target
                timeout=None,  # noqa: S113 - bounded as a whole by the caller
            ) as client,
            client.stream("GET", address, headers={"Accept-Encoding": "identity"}) as response,
        ):
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    break
            return Answer(
                status=response.status_code,
                body=body[:limit],
                cut=len(body) > limit,
                location=response.headers.get("location", "") if response.is_redirect else "",
            )
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise FetchFailed(_sentence(error)) from error


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        parts.port  # noqa: B018 - raises when it is no port
    except ValueError as error:
        raise FetchFailed(f"{shown(address)!r} is not a URL ({error})") from error
    if parts.scheme not in ("http", "https") or not is_host(host):
        raise FetchFailed(f"{shown(address)!r} is not an http or https URL of one host")
    if parts.username is not None or parts.password is not None:
        raise FetchFailed("the URL carries a password; a probe's address is recorded and must not")


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
