"""Looks at an upstream beside the agent: does it let us in, does it answer. Sends no reading."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from agent.sync.config import HttpUpstreamOptions, MqttUpstreamOptions, NatsUpstreamOptions
from agent.sync.upstream import Paused, UpstreamError
from drivers.examination import ok, problem, unknown, unreachable, unreadable, warning
from drivers.transport.apart import run_apart
from drivers.transport.secrecy import Secrecy

if TYPE_CHECKING:
    from agent.config import UpstreamConfig
    from drivers.examination import Finding

_SECRET = "run this as the user the agent runs as, or as root; else correct the secret"  # noqa: S105 (what to do about one)


async def examine(upstream: UpstreamConfig) -> list[Finding]:
    """Look at one upstream. Whatever the other end repeats, no finding shows a secret."""
    secrecy = Secrecy()
    return [
        replace(found, what=secrecy.hide(found.what), remedy=found.remedy and secrecy.hide(found.remedy))
        for found in await _examine(upstream, secrecy)
    ]


async def _examine(upstream: UpstreamConfig, secrecy: Secrecy) -> list[Finding]:
    found: list[Finding] = []
    options = upstream.options
    if options.plain_over_network:
        remedy = "use TLS: mqtts:// or https://"
        found.append(
            warning(upstream.name, "readings and credentials go unencrypted over the network", remedy)
        )
    if isinstance(options, MqttUpstreamOptions):
        return found + await _mqtt(upstream.name, options, secrecy)
    if isinstance(options, HttpUpstreamOptions):
        return found + await _http(upstream.name, options, secrecy)
    if isinstance(options, NatsUpstreamOptions):
        return [*found, await _nats(upstream.name, options)]
    return found


async def _mqtt(name: str, options: MqttUpstreamOptions, secrecy: Secrecy) -> list[Finding]:
    from agent.sync.mqtt_upstream import broker_options
    from drivers.transport.log_in import log_in

    try:
        broker = await run_apart("secret", lambda: broker_options(options, "doctor", secrecy))
    except (OSError, ValueError) as error:
        return [unreadable(name, f"the password cannot be read: {error}", _SECRET)]
    found = await log_in(name, broker, keeps_messages=options.ack == "broker")
    if options.ack == "broker":
        what = "a broker's acknowledgement is not a durable one: it keeps only what somebody subscribes to, and may lose that when it crashes"
        found.append(warning(name, what, 'run `outstation receive` at the other end, with ack = "receiver"'))
    return found


async def _http(name: str, options: HttpUpstreamOptions, secrecy: Secrecy) -> list[Finding]:
    import aiohttp

    from agent.sync.http_upstream import address_of, authorization_of, harmless

    try:
        authorization = await run_apart("secret", lambda: authorization_of(options, secrecy))
        address = await run_apart("secret", lambda: address_of(options, secrecy))
        tls = await run_apart("certificates", options.certificates().context) if options.secure else True
    except (OSError, ValueError) as error:
        return [unreadable(name, f"credentials cannot be read: {error}", _SECRET)]
    headers = {} if authorization is None else {"Authorization": authorization}
    timeout = aiohttp.ClientTimeout(total=options.timeout)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.request(*harmless(options, address), headers=headers, allow_redirects=False) as answer,
        ):
            judged = _judged_as_influxdb(name, answer.status) if options.format == "influx" else None
            return [judged or _judged(name, answer.status, answer.headers.get("Location"))]
    except TimeoutError:
        return [
            unreachable(
                name, f"no answer within {options.timeout:g} s", "is the server well, and the url right?"
            )
        ]
    except (aiohttp.ClientError, OSError) as error:
        return [unreachable(name, f"no answer: {error}", "see what is said about the network")]


async def _nats(name: str, options: NatsUpstreamOptions) -> Finding:
    from agent.sync.nats_upstream import NatsUpstream

    upstream = NatsUpstream(options, "doctor")
    try:
        await upstream.connect()
    except Paused as error:
        return problem(name, str(error), "correct the credentials")
    except UpstreamError as error:
        return unreachable(name, str(error), "is the server well, and the url right?")
    finally:
        await upstream.disconnect()
    return ok(name, "it lets us in")


def _judged_as_influxdb(name: str, status: int) -> Finding | None:
    """What an answer to a write of no lines means, where it says more than it would elsewhere."""
    if status == HTTPStatus.NOT_FOUND:
        return problem(
            name, f"it does not know this organisation or bucket ({status})", "correct `org` and `bucket`"
        )
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return ok(name, f"it lets us in ({status}: a write without lines)")
    return None


def _judged(name: str, status: int, place: str | None) -> Finding:
    """What the answer means; 405 to a HEAD says that there is something that only takes POST."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}:
        return problem(
            name, f"it refuses these credentials ({status})", "correct `token`, or `username` and `password`"
        )
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return problem(name, f"there is nothing at this url ({status})", "correct the path of `url`")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        there = f" to {place}" if place else ""
        remedy = "use the url that it points to; or is this a log-in page of the network?"
        return problem(name, f"it sends us elsewhere{there} ({status}): no redirect is followed", remedy)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return warning(name, f"it has trouble of its own ({status})", "ask its operator")
    if status < HTTPStatus.MULTIPLE_CHOICES or status == HTTPStatus.METHOD_NOT_ALLOWED:
        return ok(name, f"it answers ({status})")
    return unknown(name, f"it answers ({status}); whether it takes readings is seen when some are sent")
