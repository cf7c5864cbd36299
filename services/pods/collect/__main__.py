"""python -m services.pods.collect kubernetes: feeds the pods service with clusters, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import click
import uvloop

from services.pods.collect.cluster import Cluster, reached
from services.pods.collect.credentials import Credentials
from services.pods.collect.kubernetes import KubernetesApi
from services.pods.collect.probes import probed
from services.pods.collect.state import State
from services.pods.faults import cluster_id
from shared.cli.yard import CommandError, Yard, where
from shared.errors import ApiError, FailedPrecondition, InvalidArgument
from shared.rpc.client import CallFailed, Client
from shared.service import logging as logs

log = logging.getLogger("collector")
_SERVICE: Final = "pods"
_MAX_NAME: Final = 253


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Feed the pods service with what runs elsewhere."""


@main.command()
@click.option(
    "--cluster",
    "clusters",
    metavar="NAME[=CONTEXT]",
    multiple=True,
    help="What a cluster is called, and the context of the kubeconfig that leads to it; once for each. "
    "Without, and without CONTEXT: the service account in a pod, elsewhere the current context.",
)
@click.option(
    "--cluster-id",
    "ids",
    metavar="NAME=UUID",
    multiple=True,
    help="The id of a cluster.  [default: the uid of its namespace kube-system]",
)
@click.option("--kubeconfig", default="", metavar="FILE", help="[default: KUBECONFIG, ~/.kube/config]")
@where
def kubernetes(yard: Yard, clusters: Sequence[str], ids: Sequence[str], kubeconfig: str) -> None:
    """Pods, and what they belong to, of Kubernetes clusters: all that there is, then all that changes.

    ROUNDHOUSE_HTTP_PORT gives it a port with /healthz, /readyz and /metrics.
    """
    logs.configure("collector", form=yard.config.log_format, level=yard.config.log_level)
    try:
        credentials = wanted(clusters, kubeconfig)
        uvloop.run(_until_stopped(partial(collect, yard, credentials, given_ids(ids, credentials))))
    except (ApiError, CallFailed, OSError) as error:
        log.error("cannot start: %s", error)
        sys.exit(1)


def wanted(given: Sequence[str], kubeconfig: str) -> dict[str, Credentials]:
    """How each cluster is reached, by its name. Raises FailedPrecondition and click.UsageError."""
    found: dict[str, Credentials] = {}
    for text in given or ("",):
        name, _, context = text.partition("=")
        credentials = Credentials(kubeconfig, context.strip())
        name = name.strip() or credentials.name()
        if name in found:
            raise click.UsageError(f"--cluster: {name!r} is there twice")
        if not name or len(name) > _MAX_NAME or not name.isprintable():
            raise click.UsageError(f"--cluster: {name!r} is no name; write --cluster NAME=CONTEXT")
        found[name] = credentials
    if len(set(found.values())) < len(found):
        raise click.UsageError("--cluster: two lead to the same cluster; write --cluster NAME=CONTEXT")
    return found


def given_ids(given: Sequence[str], clusters: dict[str, Credentials]) -> dict[str, str]:
    """Raises click.UsageError."""
    found: dict[str, str] = {}
    for text in given:
        name, _, id = text.rpartition("=")
        if name not in clusters:
            raise click.UsageError(f"--cluster-id: {text!r} must be NAME=UUID of {', '.join(clusters)}")
        try:
            found[name] = cluster_id(id, "--cluster-id")
        except InvalidArgument as error:
            raise click.UsageError(error.message) from error
    return found


async def _until_stopped(work: Callable[[], Awaitable[None]]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    working = asyncio.ensure_future(work())
    ended = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
    if stopped.is_set():
        log.info("stopping")
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        log.info("stopped")
        return
    ended.cancel()
    await working


async def collect(yard: Yard, credentials: dict[str, Credentials], ids: dict[str, str]) -> None:
    """Until it is cancelled. Raises ApiError, CallFailed and OSError when it cannot start."""
    states = {name: State(name) for name in credentials}
    async with AsyncExitStack() as stack:
        health, port = await stack.enter_async_context(probed(yard.config, states.values()))
        found: list[Cluster] = []
        for name, one in credentials.items():
            api = await stack.enter_async_context(KubernetesApi(one.client))
            found.append(await reached(states[name], ids.get(name, ""), api))
        twice = {one.id for one in found if sum(one.id == other.id for other in found) > 1}
        if twice:
            raise FailedPrecondition(f"two clusters have the id {', '.join(sorted(twice))}; see --cluster-id")
        health.serving = True
        ports = {"http": port} if port is not None else {}
        log.info("ready", extra={"clusters": {one.name: one.id for one in found}, **ports})
        running = [asyncio.create_task(one.run(partial(_connect, yard))) for one in found]
        try:
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _connect(yard: Yard) -> Client:
    """With the token that the file holds now. Raises FailedPrecondition."""
    try:
        return yard.client(_SERVICE)
    except CommandError as error:
        raise FailedPrecondition(error.message) from error


if __name__ == "__main__":
    try:
        main()
    except ApiError as error:
        sys.exit(f"collector: {error.message}")
