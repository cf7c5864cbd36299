"""Names of the lab's resources: what is refused, and what the refusal says."""

from __future__ import annotations

import pytest

from services.jumpstarter import names
from services.jumpstarter.names import CLIENTS, EXPORTERS, LEASES, POLICIES
from shared.errors import InvalidArgument


@pytest.mark.parametrize("id", ["a", "0", "a-b", "a.b", "1-2.3", "a" * 253, "x.y" * 50])
def test_ids(id: str) -> None:
    assert names.id_fault(id) == ""
    assert names.parse_parent(f"namespaces/{id}") == id
    assert EXPORTERS.parse(EXPORTERS.name("lab", id)) == ("lab", id)


@pytest.mark.parametrize(
    "id", ["", "A", "-", "-a", "a-", ".a", "a.", "a..b", "a.-b", "a_b", "ä", "a b", "a\n", "a" * 254, "١"]
)
def test_what_is_no_id(id: str) -> None:
    assert "is no DNS-1123 subdomain" in names.id_fault(id)
    with pytest.raises(InvalidArgument) as caught:
        LEASES.parse(LEASES.name("lab", id), "lease.name")
    assert caught.value.violations[0].field == "lease.name"


def test_each_collection_has_its_word() -> None:
    for collection, word in ((EXPORTERS, "exporters"), (LEASES, "leases"), (CLIENTS, "clients")):
        assert collection.parse(f"namespaces/lab/{word}/x") == ("lab", "x")
    assert POLICIES.parse("namespaces/lab/accessPolicies/x") == ("lab", "x")
    assert names.namespace_of("namespaces/lab/exporters/x") == "lab"
    assert names.id_of("namespaces/lab/exporters/x") == "x"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "'' has 1 segments; 4 are expected, as in namespaces/{namespace}/exporters/{exporter}"),
        ("namespaces/lab/exporters", "has 3 segments; 4 are expected"),
        ("namespaces/lab/exporters/x/y", "has 5 segments; 4 are expected"),
        ("/namespaces/lab/exporters/x", "has 5 segments; 4 are expected"),
        ("projects/lab/exporters/x", "segment 1 of 'projects/lab/exporters/x' is 'projects'; 'namesp"),
        ("namespaces/lab/leases/x", "segment 3 of 'namespaces/lab/leases/x' is 'leases'; 'exporters' is"),
        ("namespaces//exporters/x", "'' is no DNS-1123 subdomain"),
    ],
)  # fmt: skip
def test_what_was_expected_and_found(name: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        EXPORTERS.parse(name)
    assert says in caught.value.message
    assert caught.value.violations[0].field == "name"


@pytest.mark.parametrize(
    ("parent", "says"),
    [
        ("", "has 1 segments; 2 are expected, as in namespaces/{namespace}"),
        ("namespaces/lab/x", "has 3 segments; 2 are expected"),
        ("projects/lab", "segment 1 of 'projects/lab' is 'projects'; 'namespaces' is expected"),
        ("namespaces/-", "'-' is no DNS-1123 subdomain"),
    ],
)
def test_parents(parent: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        names.parse_parent(parent)
    assert says in caught.value.message
    assert caught.value.violations[0].field == "parent"
