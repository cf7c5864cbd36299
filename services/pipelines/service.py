"""The composition root of the pipelines service."""

from __future__ import annotations

from collections.abc import Sequence

from services.pipelines import experiment, v1beta1, v2beta1
from services.pipelines.experiments import Experiments
from services.pipelines.healthz import routes
from services.pipelines.metrics import ExperimentMetrics
from services.pipelines.namespaces import Namespaces
from services.pipelines.style import STYLE, error_details
from services.pipelines.v1beta1 import ExperimentServiceV1
from services.pipelines.v2beta1 import ExperimentServiceV2
from shared.auth.permissions import PERMISSIONS
from shared.resource.answers import Answers
from shared.resource.definition import CLAIM, Definition
from shared.rpc.method import methods_of
from shared.service.config import Config
from shared.service.service import Api, Assembly, Clock, Environment, NewId, Service
from shared.storage.port import Author, Query

_STARTER = Author("roundhouse", "start:experiment:create")


def definitions(config: Config, clock: Clock, new_id: NewId) -> Sequence[Definition]:
    return [experiment.definition(experiment.Rules(clock, new_id, multi_user=config.multi_user))]


async def assemble(environment: Environment, kinds: Sequence[Definition]) -> Assembly:
    config = environment.config
    metrics = ExperimentMetrics(environment.metrics.registry)
    experiments = Experiments(environment.collection(kinds[0]), requested=metrics.requested)
    if not config.multi_user:
        await experiments.refuse_namespaces()
    if config.default_experiment and not config.multi_user:
        await experiments.ensure_default("Default", _STARTER)
    namespaces = Namespaces(
        config.multi_user,
        config.multi_user_shared_read,
        config.userid_header,
        config.userid_prefix,
        environment.access.identity_of,
    )
    servicer_v1 = ExperimentServiceV1(experiments, namespaces, Answers(environment.store))
    servicer_v2 = ExperimentServiceV2(experiments, namespaces, Answers(environment.store))
    v1 = methods_of(v1beta1.SERVICE, servicer_v1, PERMISSIONS, aliases=v1beta1.ALIASES)
    v2 = methods_of(v2beta1.SERVICE, servicer_v2, PERMISSIONS)

    async def count() -> None:
        metrics.count.set(await environment.store.count(Query("experiment")))

    health = routes(config.multi_user)
    return Assembly(
        apis=[
            Api("Kubeflow Pipelines experiments, v1beta1", [*v1, *health.v1], STYLE, error_details),
            Api("Kubeflow Pipelines experiments, v2beta1", [*v2, *health.v2], STYLE, error_details),
        ],
        routes=health.http,
        on_scrape=[count],
    )


SERVICE = Service("pipelines", definitions, assemble, kinds=(CLAIM, experiment.MARK))
