"""The one table: which permission every RPC asks for, and which role has it.

REST routes are bindings of the same RPCs and ask for the same. docs/security.md explains the
choices; a test compares it, and the stubs of every service, with this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# The permission of an RPC that needs no token.
PUBLIC: Final = ""

VIEWER: Final = "viewer"
OPERATOR: Final = "operator"
ADMIN: Final = "admin"
# From least to most: each has what the ones before it have.
ROLE_NAMES: Final = (VIEWER, OPERATOR, ADMIN)

_META: Final = "services/meta.edgelq.com/permissions/"
_CATALOGUE: Final = ("regions", "deployments", "services", "resources")
_META_VERBS: Final = ("get", "batchGet", "list", "watch")

# Permission -> the least role that has it.
GRANTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Pipelines.
        "experiments.get": VIEWER,
        "experiments.list": VIEWER,
        "experiments.create": OPERATOR,
        "experiments.delete": OPERATOR,
        "experiments.archive": OPERATOR,
        "experiments.unarchive": OPERATOR,
        # Jumpstarter, for clients and for staff that acts as one.
        "exporters.get": VIEWER,
        "exporters.list": VIEWER,
        "leases.get": VIEWER,
        "leases.list": VIEWER,
        "leases.create": OPERATOR,
        "leases.update": OPERATOR,
        "leases.delete": OPERATOR,
        "leases.release": OPERATOR,
        "leases.dial": OPERATOR,
        "tokens.rotate": OPERATOR,
        # Jumpstarter, for whoever runs a lab.
        "queue.list": VIEWER,
        "board.list": VIEWER,
        "leases.search": VIEWER,
        "tokens.issue": OPERATOR,
        # Jobs.
        "jobs.get": VIEWER,
        "jobs.list": VIEWER,
        "jobs.watch": VIEWER,
        "jobs.create": OPERATOR,
        "jobs.update": OPERATOR,
        "jobs.delete": OPERATOR,
        "jobs.restart": OPERATOR,
        "jobs.start": OPERATOR,
        "jobs.stop": OPERATOR,
        "jobs.refresh": OPERATOR,
        "workflows.control": OPERATOR,
        "pods.get": VIEWER,
        "pods.list": VIEWER,
        "pods.browse": VIEWER,
        "pods.start": OPERATOR,
        "pods.stop": OPERATOR,
        "pods.restart": OPERATOR,
        "pods.refresh": OPERATOR,
        "pods.deleteEvents": OPERATOR,
        "pods.log": VIEWER,
        "resourcePools.get": VIEWER,
        # Meta: the strings of the API's own contract.
        **{f"{_META}{xs}.{verb}": VIEWER for xs in _CATALOGUE for verb in _META_VERBS},
        # Pods: exports and lists, and what feeds them.
        "pods.view": VIEWER,
        "pods.feed": OPERATOR,
        # The internal API: current objects, their history and their changes, of every kind.
        "admin.read": VIEWER,
        "admin.apply": OPERATOR,
        "admin.delete": OPERATOR,
        "audit.list": ADMIN,
        # One's own token.
        "access.whoami": VIEWER,
        "access.signOut": VIEWER,
        # Other people.
        "tokens.create": ADMIN,
        "tokens.list": ADMIN,
        "tokens.revoke": ADMIN,
        "users.put": ADMIN,
        "users.list": ADMIN,
        "signInCodes.create": ADMIN,
        # Not of one RPC: headers that name another user count (pipelines contract, section 8).
        "impersonate": ADMIN,
    }
)

# Roles beside those, of tokens that stand for a client or an exporter of Jumpstarter and for nobody
# else: nobody is given one by name, and neither is more or less than another role.
JUMPSTARTER_CLIENT: Final = "jumpstarter.client"
JUMPSTARTER_EXPORTER: Final = "jumpstarter.exporter"

# What those may: what the RPCs of each ask for.
APART: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        JUMPSTARTER_CLIENT: frozenset(
            {
                "exporters.get",
                "exporters.list",
                "leases.get",
                "leases.list",
                "leases.create",
                "leases.update",
                "leases.delete",
                "leases.release",
                "leases.dial",
                "tokens.rotate",
            }
        ),
        JUMPSTARTER_EXPORTER: frozenset(
            {
                "exporters.register",
                "exporters.unregister",
                "exporters.reportStatus",
                "exporters.status",
                "exporters.listen",
                "exporters.audit",
                "exporters.endpoints",
                "leases.release",
            }
        ),
    }
)

_V1 = "/api.ExperimentService/"
_V2 = "/kubeflow.pipelines.backend.api.v2beta1.ExperimentService/"
_ADMIN = "/roundhouse.admin.v1.AdminService/"
_ACCESS = "/roundhouse.admin.v1.AccessService/"
_CLIENT = "/jumpstarter.client.v1.ClientService/"
_CONTROLLER = "/jumpstarter.v1.ControllerService/"
_LAB = "/roundhouse.lab.v1.LabService/"
_PODS = "/v1.PodService/"
_FEED = "/podfeed.v1.PodFeedService/"
_BROWSE = "/roundhouse.pods.v1.BrowseService/"
_JOB = "/peloton.api.v1alpha.job.stateless.svc.JobService/"
_POD = "/peloton.api.v1alpha.pod.svc.PodService/"
_WATCH = "/peloton.api.v1alpha.watch.svc.WatchService/"
_POOL = "/peloton.api.v1alpha.respool.ResourcePoolService/"
_LOG = "/roundhouse.jobs.v1.LogService/"


def _catalogue() -> Mapping[str, str]:
    """The five methods of each type; both watches ask for the same."""
    found: dict[str, str] = {}
    for xs in _CATALOGUE:
        many = xs.capitalize()
        one = many.removesuffix("s")
        service = f"/ntt.meta.v1alpha2.{one}Service/"
        verbs = {f"Get{one}": "get", f"BatchGet{many}": "batchGet", f"List{many}": "list"}
        verbs |= {f"Watch{one}": "watch", f"Watch{many}": "watch"}
        found |= {f"{service}{method}": f"{_META}{xs}.{verb}" for method, verb in verbs.items()}
    return found


# "/service/method" -> permission.
PERMISSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **_catalogue(),
        f"{_V1}CreateExperiment": "experiments.create",
        f"{_V1}GetExperiment": "experiments.get",
        f"{_V1}ListExperiment": "experiments.list",
        f"{_V1}DeleteExperiment": "experiments.delete",
        f"{_V1}ArchiveExperiment": "experiments.archive",
        f"{_V1}UnarchiveExperiment": "experiments.unarchive",
        f"{_V1}CreateExperimentV1": "experiments.create",
        f"{_V1}GetExperimentV1": "experiments.get",
        f"{_V1}ListExperimentsV1": "experiments.list",
        f"{_V1}DeleteExperimentV1": "experiments.delete",
        f"{_V1}ArchiveExperimentV1": "experiments.archive",
        f"{_V1}UnarchiveExperimentV1": "experiments.unarchive",
        f"{_V2}CreateExperiment": "experiments.create",
        f"{_V2}GetExperiment": "experiments.get",
        f"{_V2}ListExperiments": "experiments.list",
        f"{_V2}DeleteExperiment": "experiments.delete",
        f"{_V2}ArchiveExperiment": "experiments.archive",
        f"{_V2}UnarchiveExperiment": "experiments.unarchive",
        "/api.HealthzService/GetHealthz": PUBLIC,
        "/kubeflow.pipelines.backend.api.v2beta1.HealthzService/GetHealthz": PUBLIC,
        f"{_CLIENT}GetExporter": "exporters.get",
        f"{_CLIENT}ListExporters": "exporters.list",
        f"{_CLIENT}GetLease": "leases.get",
        f"{_CLIENT}ListLeases": "leases.list",
        f"{_CLIENT}CreateLease": "leases.create",
        f"{_CLIENT}UpdateLease": "leases.update",
        f"{_CLIENT}DeleteLease": "leases.delete",
        f"{_CLIENT}RotateToken": "tokens.rotate",
        f"{_CONTROLLER}Register": "exporters.register",
        f"{_CONTROLLER}Unregister": "exporters.unregister",
        f"{_CONTROLLER}ReportStatus": "exporters.reportStatus",
        f"{_CONTROLLER}Listen": "exporters.listen",
        f"{_CONTROLLER}Status": "exporters.status",
        f"{_CONTROLLER}AuditStream": "exporters.audit",
        f"{_CONTROLLER}GetServiceEndpoints": "exporters.endpoints",
        f"{_CONTROLLER}Dial": "leases.dial",
        f"{_CONTROLLER}GetLease": "leases.get",
        f"{_CONTROLLER}RequestLease": "leases.create",
        f"{_CONTROLLER}ReleaseLease": "leases.release",
        f"{_CONTROLLER}ListLeases": "leases.list",
        # The handler asks for a router token, which only ControllerService makes.
        "/jumpstarter.v1.RouterService/Stream": PUBLIC,
        f"{_LAB}IssueToken": "tokens.issue",
        f"{_LAB}ListQueue": "queue.list",
        f"{_LAB}ListBoard": "board.list",
        f"{_LAB}ListLeases": "leases.search",
        f"{_LAB}ListNamespaces": "board.list",
        f"{_PODS}GetPods": "pods.view",
        f"{_PODS}ExportPods": "pods.view",
        f"{_BROWSE}CountPods": "pods.view",
        f"{_BROWSE}ExportLines": "pods.view",
        f"{_FEED}Push": "pods.feed",
        f"{_FEED}Sync": "pods.feed",
        f"{_FEED}PutInventory": "pods.feed",
        f"{_JOB}CreateJob": "jobs.create",
        f"{_JOB}ReplaceJob": "jobs.update",
        f"{_JOB}PatchJob": "jobs.update",
        f"{_JOB}RestartJob": "jobs.restart",
        f"{_JOB}PauseJobWorkflow": "workflows.control",
        f"{_JOB}ResumeJobWorkflow": "workflows.control",
        f"{_JOB}AbortJobWorkflow": "workflows.control",
        f"{_JOB}StartJob": "jobs.start",
        f"{_JOB}StopJob": "jobs.stop",
        f"{_JOB}DeleteJob": "jobs.delete",
        f"{_JOB}RefreshJob": "jobs.refresh",
        f"{_JOB}GetJob": "jobs.get",
        f"{_JOB}GetJobIDFromJobName": "jobs.get",
        f"{_JOB}GetWorkflowEvents": "jobs.get",
        f"{_JOB}ListJobWorkflows": "jobs.get",
        f"{_JOB}GetReplaceJobDiff": "jobs.get",
        f"{_JOB}GetJobCache": "jobs.get",
        f"{_JOB}ListJobs": "jobs.list",
        f"{_JOB}QueryJobs": "jobs.list",
        f"{_JOB}ListPods": "pods.list",
        f"{_JOB}QueryPods": "pods.list",
        f"{_POD}GetPod": "pods.get",
        f"{_POD}GetPodEvents": "pods.get",
        f"{_POD}GetPodCache": "pods.get",
        f"{_POD}BrowsePodSandbox": "pods.browse",
        f"{_POD}StartPod": "pods.start",
        f"{_POD}StopPod": "pods.stop",
        f"{_POD}RestartPod": "pods.restart",
        f"{_POD}RefreshPod": "pods.refresh",
        f"{_POD}DeletePodEvents": "pods.deleteEvents",
        f"{_LOG}ReadLog": "pods.log",
        f"{_LOG}DownloadLog": "pods.log",
        f"{_WATCH}Watch": "jobs.watch",
        f"{_WATCH}Cancel": "jobs.watch",
        f"{_POOL}GetResourcePool": "resourcePools.get",
        f"{_POOL}LookupResourcePoolID": "resourcePools.get",
        f"{_POOL}QueryResourcePools": "resourcePools.get",
        f"{_ADMIN}ListKinds": "admin.read",
        f"{_ADMIN}Get": "admin.read",
        f"{_ADMIN}List": "admin.read",
        f"{_ADMIN}Export": "admin.read",
        f"{_ADMIN}History": "admin.read",
        f"{_ADMIN}Watch": "admin.read",
        f"{_ADMIN}Apply": "admin.apply",
        f"{_ADMIN}Delete": "admin.delete",
        f"{_ADMIN}ListAudit": "audit.list",
        f"{_ACCESS}WhoAmI": "access.whoami",
        f"{_ACCESS}SignOut": "access.signOut",
        f"{_ACCESS}CreateToken": "tokens.create",
        f"{_ACCESS}ListTokens": "tokens.list",
        f"{_ACCESS}RevokeToken": "tokens.revoke",
        f"{_ACCESS}PutUser": "users.put",
        f"{_ACCESS}ListUsers": "users.list",
        f"{_ACCESS}CreateSignInCode": "signInCodes.create",
        f"{_ACCESS}RedeemSignInCode": PUBLIC,
        # Served by the gRPC library itself, beside our services.
        "/grpc.health.v1.Health/Check": PUBLIC,
        "/grpc.health.v1.Health/List": PUBLIC,
        "/grpc.health.v1.Health/Watch": PUBLIC,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": PUBLIC,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": PUBLIC,
    }
)


def _rank(role: str) -> int:
    """How much a role may; -1 for one that is unknown or stands apart."""
    return ROLE_NAMES.index(role) if role in ROLE_NAMES else -1


ROLES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        role: frozenset(name for name, least in GRANTS.items() if _rank(least) <= _rank(role))
        for role in ROLE_NAMES
    }
)


# Whatever any RPC asks for.
EVERYTHING: Final = frozenset(GRANTS).union(*APART.values())


def permissions_of(role: str) -> frozenset[str]:
    """All that `role` may; nothing when it is unknown here."""
    return ROLES.get(role) or APART.get(role, frozenset())


def lesser(one: str, other: str) -> str:
    """The role of the two that may less."""
    return min(one, other, key=_rank)


def exceeds(one: str, other: str) -> bool:
    """Whether role `one` may more than role `other`."""
    return _rank(one) > _rank(other)
