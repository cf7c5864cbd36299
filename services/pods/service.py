"""The composition root of the pods service."""

from __future__ import annotations

from collections.abc import Sequence

from services.pods import browse_service, feed_service, kinds, pod_service
from services.pods.browse_service import BrowseService
from services.pods.census import Counting
from services.pods.definitions import PodDefinition
from services.pods.definitions import definitions as kinds_of
from services.pods.feed import Feed
from services.pods.feed_service import PodFeedService
from services.pods.follower import FOLLOWED
from services.pods.inventory import Inventory
from services.pods.inventory_feed import InventoryFeed
from services.pods.jobs_feed import JobsFeed
from services.pods.labels import SEARCH
from services.pods.metrics import FeedMetrics
from services.pods.pod_service import PodService
from services.pods.pods import Pods
from services.pods.style import STYLE, Credentials
from shared.auth.permissions import PERMISSIONS
from shared.query.ast import And, Node
from shared.resource.definition import Definition
from shared.rpc.method import HttpForm, methods_of
from shared.service.config import Config
from shared.service.service import Api, Assembly, Clock, Environment, NewId, Service
from shared.storage.port import Query


def definitions(config: Config, clock: Clock, new_id: NewId) -> Sequence[Definition]:
    inventory = Inventory()

    def parse_filter(text: str) -> Node:
        parsed = SEARCH.parse(text, clock())
        if parsed.joined is None:
            return parsed.own
        return And((parsed.own, inventory.among_known(parsed.joined)))

    return kinds_of(inventory, parse_filter)


async def assemble(environment: Environment, found: Sequence[Definition]) -> Assembly:
    config, store, clock = environment.config, environment.store, environment.clock
    metrics = FeedMetrics(environment.metrics.registry)
    pods_definition = found[0]
    assert isinstance(pods_definition, PodDefinition)
    inventory = pods_definition.inventory
    await inventory.rows(store, await store.head())
    stored = Pods(store, inventory, clock)
    pods = PodService(stored, metrics)
    browse = BrowseService(Counting(stored, store, inventory), pods)
    feed = PodFeedService(
        Feed(store, clock, max_sync=config.pods_max_sync),
        InventoryFeed(store, inventory, clock, max_rows=config.pods_max_sync),
        metrics,
    )

    jobs = None
    if config.pods_jobs:
        jobs = JobsFeed(config, store, environment.access, clock, metrics)
        await environment.stack.enter_async_context(jobs)

    async def count() -> None:
        if jobs is not None:
            metrics.jobs_lag.set(jobs.lag)
        metrics.pods.set(await store.count(Query(kinds.POD)))

    of_pods = methods_of(
        pod_service.SERVICE,
        pods,
        PERMISSIONS,
        authenticator=Credentials(environment.access),
        http={"ExportPods": HttpForm(lines=pods.export_lines)},
    )
    of_browse = methods_of(browse_service.SERVICE, browse, PERMISSIONS)
    of_feed = methods_of(
        feed_service.SERVICE, feed, PERMISSIONS, rules=feed_service.RULES, http=feed_service.FORMS
    )
    return Assembly(
        apis=[
            Api("StackRox pods, v1", of_pods, STYLE),
            Api("Roundhouse pod feed", of_feed, STYLE),
            Api("What consoles ask of pods", of_browse, STYLE),
        ],
        on_scrape=[count],
    )


SERVICE = Service("pods", definitions, assemble, kinds=(kinds.MARK, FOLLOWED))
