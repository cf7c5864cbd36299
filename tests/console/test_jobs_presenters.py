"""Texts and forms of jobs without a service: what is read, compared and put together."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from admin_ui.job_state import JobListState
from admin_ui.presenters import job_forms, job_pools, job_specs, jobs
from admin_ui.presenters.job_pools import Pool, Resource
from admin_ui.presenters.raw import to_yaml
from shared.errors import InvalidArgument, Violation
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import InstanceIDRange
from shared.rpc.client import Failure


def spec(**fields: Any) -> JobSpec:
    """`command`, `cpu` and `labels` go where they belong."""
    found = JobSpec(name="a", instance_count=fields.pop("count", 1))
    container = found.default_spec.containers.add(name="main")
    container.entrypoint.value = fields.pop("command", "run")
    container.resource.cpu_limit = fields.pop("cpu", 1)
    for key, value in fields.pop("labels", {}).items():
        found.labels.add(key=key, value=value)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def test_a_text_that_was_written_is_read_back():
    found = spec(labels={"b": "2", "a": "1"}, count=3)
    found.instance_spec[7].labels.add(key="odd", value="yes")
    found.revision.version = 9
    again = job_specs.parse(job_specs.text(found))
    found.ClearField("revision")
    assert again == found
    # The body of a request is taken for its spec.
    assert job_specs.parse(to_yaml({"spec": job_specs.value(found), "createSpec": {}})) == found


@pytest.mark.parametrize(
    "text,field,line,says",
    [
        ("name: x\nlabels: 3\n", "labels", 2, "must be a list"),
        ("sla: 3\n", "sla", 1, "must be a mapping"),
        ("sla:\n  preemptible: 1\n", "sla.preemptible", 2, "true or false"),
        ("instance_count: -1\n", "instance_count", 1, "whole number from 0"),
        ("instanceCount: 5e99\n", "instanceCount", 1, "whole number"),
        (
            "default_spec:\n  volumes:\n  - type: 9x\n",
            "default_spec.volumes[0].type",
            3,
            "one of VOLUME_TYPE",
        ),
        ("instance_spec: {-1: {}}\n", "instance_spec[-1]", 1, "no number of an instance"),
        ("name: a\nName: b\n", "Name", 2, "is no field; perhaps name"),
        ("owner: a\nldapGroups: []\nldap_groups: []\n", "ldap_groups", 3, "given twice"),
        ("name: a\n  b: c\n", "", 2, "cannot be read"),
        ("a: &x 1\nb: *x\n", "", 2, "aliases are not supported"),
        (f"a: {'[' * 40}", "", 1, "nested deeper"),
    ],
)
def test_mistakes_stand_with_their_lines(text: str, field: str, line: int, says: str):
    with pytest.raises(InvalidArgument) as caught:
        job_specs.parse(text)
    [found] = job_specs.mistakes(caught.value.violations, text)
    assert (found.field, found.line) == (field, line) and says in found.description
    assert found.said == text.splitlines()[line - 1].strip()


def test_a_mistake_the_text_does_not_have_stands_at_what_is_around_it():
    text = "default_spec:\n  containers:\n  - name: main\n"
    wrong = [Violation("default_spec.containers[0].entrypoint", "x"), Violation("respool_id", "y")]
    assert [one.line for one in job_specs.mistakes(wrong, text)] == [0, 3]


def test_what_a_service_refuses_is_told_at_its_fields():
    text = "spec.default_spec.containers[0].image: not supported; spec.default_spec.volumes[0].host_path: no"
    found = job_specs.violations(Failure(grpc.StatusCode.UNIMPLEMENTED, text))
    assert [one.field for one in found] == [
        "default_spec.containers[0].image",
        "default_spec.volumes[0].host_path",
    ]
    assert job_specs.violations(Failure(grpc.StatusCode.UNIMPLEMENTED, "no such method; sorry")) == ()
    assert job_specs.violations(Failure(grpc.StatusCode.UNAVAILABLE, text)) == ()
    told, rest = job_specs.of_field(
        [*found, Violation("default_spec.containers[0].resource.cpu_limit", "is -1")], job_forms.PATHS
    )
    assert told == {"cpu": "is -1"} and len(rest) == 2


@pytest.mark.parametrize(
    "theirs,mine,merged,overlaps",
    [
        ({"count": 2}, {"owner": "me"}, {"count": 2, "owner": "me"}, []),
        ({"count": 2}, {"count": 3}, {"count": 3}, ["instance_count"]),
        ({"count": 2}, {"count": 2}, {"count": 2}, []),
        # Parts of one container, and entries of one list, are put together.
        ({"command": "new"}, {"cpu": 2}, {"command": "new", "cpu": 2}, []),
        ({"labels": {"a": "1", "b": "2"}}, {"labels": {"a": "9"}}, {"labels": {"a": "9", "b": "2"}}, []),
        ({"labels": {}}, {"labels": {"a": "1", "c": "3"}}, {"labels": {"c": "3"}}, []),
        ({"labels": {"a": "8"}}, {"labels": {"a": "9"}}, {"labels": {"a": "9"}}, ["labels[a].value"]),
    ],
)  # fmt: skip
def test_two_changes_of_one_spec_are_put_together(
    theirs: dict[str, Any], mine: dict[str, Any], merged: dict[str, Any], overlaps: list[str]
):
    base = {"labels": {"a": "1"}}
    made = [spec(**{**base, **change}) for change in ({}, theirs, mine, merged)]
    assert job_specs.merged(*made[:3]) == made[3]
    assert [one.path for one in job_specs.overlaps(*made[:3])] == overlaps


def test_a_form_shows_what_a_spec_says_and_says_it_again():
    found = spec(labels={"a": "b=c"}, count=5, cpu=0.25, command="a\nb")
    found.respool_id.value = "pool"
    check = found.default_spec.containers[0].liveness_check
    check.enabled, check.type, check.interval_secs, check.max_consecutive_failures = True, 2, 7, 9
    check.http_check.port, check.http_check.path = 80, "/ok"
    assert not job_forms.beyond(found)
    again, wrong = job_forms.spec_of(job_forms.typed_of(found), JobSpec())
    assert (again, wrong) == (found, {})
    found.default_spec.revocable = True
    assert job_forms.beyond(found)


@pytest.mark.parametrize(
    "text,path",
    [
        ("default_spec: {containers: [{name: web, entrypoint: {value: run}}]}", "containers[web].name"),
        ('default_spec: {containers: [{name: main, entrypoint: {value: "run\\n"}}]}', "entrypoint.value"),
        ("default_spec: {containers: [{name: main, resource: {cpu_limit: 0.123456789}}]}", "cpu_limit"),
        ("default_spec: {containers: [{name: main, environment: [{name: A, value: ' b'}]}]}", "[A].value"),
        ("labels: [{key: a, value: b}, {key: a, value: c}]", "labels["),
        ("sla: {preemptible: true}", "sla.preemptible"),
    ],
)  # fmt: skip
def test_what_a_form_would_make_something_else_of_is_beyond_it(text: str, path: str):
    found = job_specs.parse(f"name: a\ninstance_count: 1\nrespool_id: {{value: p}}\n{text}\n")
    assert any(path in one for one in job_forms.beyond(found)), job_forms.beyond(found)


@pytest.mark.parametrize(
    "text,bounds", [("", []), ("3", [(3, 4)]), ("0-4, 7", [(0, 5), (7, 8)]), ("2 – 2,", [(2, 3)])]
)
def test_ranges_mean_both_their_ends(text: str, bounds: list[tuple[int, int]]):
    found = job_forms.ranges_of(text)
    assert [(getattr(one, "from"), one.to) for one in found] == bounds
    assert jobs.ranges(found).replace("–", "-") == text.replace(" – 2,", "").replace(" ", "").replace(
        ",", ", "
    )


@pytest.mark.parametrize("text", ["x", "-1", "1-", "4-3", "1 2", "99999999999", "3000000000"])
def test_ranges_that_are_none(text: str):
    with pytest.raises(ValueError, match=r"range|begins|beyond"):
        job_forms.ranges_of(text)


def test_ranges_are_told_shortly():
    many = [InstanceIDRange(**{"from": 2 * n, "to": 2 * n + 1}) for n in range(20)]
    assert jobs.ranges(many).endswith(", …") and jobs.size(many) == 20


@pytest.mark.parametrize(
    "cpu,count,fit,never",
    [(1, 3, None, False), (1, 5, 3, False), (4, 1, 0, False), (0, 500, None, False), (11, 1, 0, True)],
)
def test_room_counts_every_pool_up_to_the_root(cpu: float, count: int, fit: int | None, never: bool):
    def pool(id: str, limit: float | None, used: float, *above: str) -> Pool:
        resource = Resource("cpu", "CPU", "", limit, used)
        return Pool(id, f"/{id}", id, "", 1, not above, (resource,), above)

    known = [pool("a", 10, 7), pool("b", None, 7, "a")]
    asked = spec(cpu=cpu, count=count)
    asked.respool_id.value = "b"
    found = job_pools.room(asked, known)
    assert found is not None and (found.fit, found.never) == (fit, never)
    asked.respool_id.value = "nowhere"
    assert job_pools.room(asked, known) is None


def test_bars_fill_their_width_and_leave_out_what_is_not():
    found = jobs.parts({"a": 1, "none": 0, "b": 3})
    assert [(one.word, one.start, one.width) for one in found] == [("a", 0, 25), ("b", 25, 75)]
    assert jobs.parts({}) == ()


def test_a_list_says_in_words_what_it_shows():
    state = JobListState.parse(
        {"state": "running", "q": "a  b", "owner": "me", "workflow": "failed", "x": "y"}
    )
    assert jobs.sentence(state) == "running jobs with “a b” of me whose last workflow failed"
    assert state.query() == "?q=a+b&state=running&owner=me&workflow=failed"
    assert JobListState.parse({"state": "odd", "workflow": "odd"}).query() == ""
    assert jobs.sentence(JobListState(filter="instance_count > 3")) == "jobs, whose instance count is above 3"


def test_what_a_job_has_is_told_apart_shortly():
    id = "6b1cbf86-75ea-4c96-8ee4-000000000000"
    assert jobs.short("job_pod", f"{id}-12") == "6b1cbf86 12"
    assert jobs.short("run", f"{id}-0-000000000007") == "6b1cbf86 0-7"
    assert jobs.short("workflow", f"{id}/000000000003") == "6b1cbf86 3"
    assert jobs.short("job", id) == jobs.short("experiment", f"{id}-1") == ""
