"""`python -m admin_ui`: the console as a process of its own. Ends cleanly on SIGTERM, with 0."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
import warnings
from pathlib import Path

import orjson
import uvloop
from aiohttp import web

from admin_ui.app import build_app
from shared.rpc import client
from shared.service import config as settings
from shared.service import logging as service_logging
from shared.service.config import Config

log = logging.getLogger("admin_ui")


async def serve(config: Config) -> None:
    """Until SIGTERM or SIGINT. Raises OSError when the port is taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        runner = web.AppRunner(
            build_app(config),
            access_log=None,
            # Filters and page tokens make long addresses.
            max_line_size=65536,
            max_field_size=65536,
            shutdown_timeout=config.stop_grace.total_seconds(),
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        wanted = config.ports("console")[1]
        site = web.TCPSite(runner, config.host, wanted, ssl_context=_tls(config), reuse_port=False)
        await site.start()
        port = runner.addresses[0][1]
        if config.ports_file:
            _write_ports(Path(config.ports_file), port)
        scheme = "https" if config.tls_cert else "http"
        log.info("ready", extra={"url": config.public_url or f"{scheme}://{config.host}:{port}/"})
        await stop.wait()
        log.info("stopping")


def _write_ports(path: Path, port: int) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(orjson.dumps({"http": port}))
    temporary.replace(path)


def _tls(config: Config) -> ssl.SSLContext | None:
    if not config.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


def main() -> int:
    # The session library's own; ours are kept as it recommends.
    warnings.filterwarnings("ignore", category=web.NotAppKeyWarning, module="aiohttp_session")
    try:
        config = Config.load()
    except settings.InvalidArgument as error:
        sys.exit(f"console: {error}")
    service_logging.configure("console", form=config.log_format, level=config.log_level)
    try:
        uvloop.run(serve(config))
    except (OSError, ValueError, settings.InvalidArgument, client.FailedPrecondition) as error:
        log.error("cannot start", extra={"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
