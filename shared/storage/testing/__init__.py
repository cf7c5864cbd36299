"""The storage contract, as pytest classes that every backend's tests derive from, unchanged.

    class TestMine(StoreContract, RestartContract, PeerContract):
        capabilities = Capabilities(survives_restart=True, many_processes=True)
        ... the hooks of `shared.storage.testing.base.StoreHooks`

RestartContract goes with `survives_restart`, PeerContract with `many_processes`. Beyond the port's
docstrings the suite fixes these: an unknown kind or index, and a (kind, name) that stands twice in a
commit, is a ValueError; a precondition counts even where its change would be none; a changed parent is
a change; a creation has `previous` 0, also when the name existed before; `at` below the floor is
Compacted and beyond the head FutureRevision in every read; a listener's exception goes to the event
loop's handler and harms nobody.
"""

from __future__ import annotations

from shared.storage.port import Store
from shared.storage.testing.commits import CommitContract
from shared.storage.testing.durable import PeerContract, RestartContract
from shared.storage.testing.log import LogContract
from shared.storage.testing.queries import QueryContract
from shared.storage.testing.reads import ReadContract
from shared.storage.testing.samples import AUTHOR, body, collect, sample_kinds

__all__ = [
    "AUTHOR",
    "PeerContract",
    "RestartContract",
    "StoreContract",
    "body",
    "collect",
    "sample_kinds",
]


class StoreContract(ReadContract, QueryContract, CommitContract, LogContract):
    """What every backend promises."""

    async def test_the_suite_covers_what_the_backend_claims(self, store: Store) -> None:
        assert store.capabilities == self.capabilities
        assert isinstance(self, RestartContract) == store.capabilities.survives_restart
        assert isinstance(self, PeerContract) == store.capabilities.many_processes
