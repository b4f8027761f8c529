"""`outstation receive`: the reference cloud end."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import sys
from typing import TYPE_CHECKING

from agent import logs
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.until_told import until_told

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from agent.receiver.service import ReceiverSecurity

_log = logging.getLogger(__name__)

_GC_THRESHOLD = 100_000
"""A pack becomes some six containers a reading, none of them in a cycle: looking at them every 700 would be a third of decoding."""
_DEFAULT_SOURCE = "http://127.0.0.1:8080"


def main(arguments: argparse.Namespace) -> int:
    """Receive until SIGTERM or SIGINT."""
    logs.configure(arguments.log_level)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    try:
        asyncio.run(_receive(arguments))
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    except (OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return DONE


async def _receive(arguments: argparse.Namespace) -> None:
    from agent.receiver.service import DEFAULT_CLIENT_ID, serve

    if arguments.share is not None and arguments.client_id is None:
        raise ValueError("--share needs --client-id: each receiver has one of its own, and keeps it")
    security = await asyncio.to_thread(_security, arguments)
    async with until_told():
        await serve(
            arguments.sources or [_DEFAULT_SOURCE],
            arguments.into,
            security=security,
            client_id=arguments.client_id or DEFAULT_CLIENT_ID,
            share=arguments.share,
            replicas=arguments.replicas,
            metrics=arguments.metrics,
            on_ready=_say_ready,
        )
    _log.info("stopped")


def _say_ready(addresses: Sequence[str]) -> None:
    _log.info("receiving from %s", ", ".join(addresses))


def _security(arguments: argparse.Namespace) -> ReceiverSecurity:
    """Credentials and certificates, from files; reads the disk."""
    from agent.receiver.service import ReceiverSecurity
    from drivers.transport.credentials import read_secret

    server = None
    if arguments.tls_cert is not None:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    client = ssl.create_default_context(cafile=arguments.ca_file) if arguments.ca_file is not None else None
    return ReceiverSecurity(
        token=read_secret(arguments.token_file),
        http_tls=server,
        username=arguments.username,
        password=read_secret(arguments.password_file),
        tls=client,
    )
