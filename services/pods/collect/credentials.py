"""How a cluster is reached: what its kubeconfig says, or the service account of the pod that this is.

The one place that knows the optional dependency.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from shared.errors import FailedPrecondition

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

_INSTALL: Final = "pip install -r requirements-collect.txt"
_IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of one cluster. Empty texts: the service account in a pod, elsewhere the current context of the
    kubeconfig that KUBECONFIG names, or of ~/.kube/config."""

    kubeconfig: str = ""
    context: str = ""

    @property
    def in_cluster(self) -> bool:
        return not self.kubeconfig and not self.context and bool(os.environ.get(_IN_CLUSTER))

    def name(self) -> str:
        """Of the context; "kubernetes" in a pod, which is not told. Raises FailedPrecondition."""
        if self.context or self.in_cluster:
            return self.context or "kubernetes"
        config = _config()
        with _explained(f"the kubeconfig {self._path()} cannot be used"):
            _, current = config.list_kube_config_contexts(self._existing())
            return (current or {}).get("name", "")

    async def client(self) -> ApiClient:
        """A client of its own with what the files say now. Raises FailedPrecondition."""
        config = _config()
        from kubernetes_asyncio.client import ApiClient, Configuration

        # The class hands out copies of a default that others may have set.
        configuration: Any = type.__call__(Configuration)
        if self.in_cluster:
            with _explained("the service account of this pod cannot be used"):
                config.load_incluster_config(client_configuration=configuration)
            configuration.refresh_api_key_hook = _refreshed(configuration.refresh_api_key_hook)
        else:
            path = self._existing()
            with _explained(f"the kubeconfig {path} cannot be used"):
                await config.load_kube_config(
                    config_file=path,
                    context=self.context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
        # Each watch holds a connection.
        configuration.connection_pool_maxsize = 0
        return ApiClient(configuration=configuration)

    def _path(self) -> str:
        return self.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"

    def _existing(self) -> str:
        """As the library takes it. Raises FailedPrecondition when there is no such file."""
        path = self._path()
        if not any(Path(part).expanduser().is_file() for part in path.split(os.pathsep) if part):
            raise FailedPrecondition(
                f"no kubeconfig at {path}, and this is no pod of a cluster; name a file with --kubeconfig "
                "or in KUBECONFIG"
            )
        return path


def _refreshed(hook: Callable[..., None]) -> Callable[..., None]:
    """The token of a service account is read anew each minute, for it changes."""

    def refresh(*arguments: Any) -> None:
        with _explained("the token of this pod's service account cannot be read"):
            hook(*arguments)

    return refresh


def _config() -> Any:
    try:
        from kubernetes_asyncio import config
    except ImportError as error:
        raise FailedPrecondition(
            f"kubernetes-asyncio is not installed ({error}); it is optional and comes by: {_INSTALL}"
        ) from error
    return config


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """What a broken file makes the library raise is of many types."""
    from kubernetes_asyncio.config import ConfigException

    broken: tuple[type[Exception], ...] = (
        ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError
    )  # fmt: skip
    try:
        yield
    except broken as error:
        raise FailedPrecondition(f"{what}: {error}") from error
