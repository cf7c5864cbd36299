"""What becomes of a pod that is fed again (pods contract, section 7)."""

from __future__ import annotations

from services.pods.merge import KEPT, merged
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod


def instance(container: str = "app", id: str = "", finished: int = 0) -> ContainerInstance:
    found = ContainerInstance(container_name=container)
    found.instance_id.id = id
    if finished:
        found.finished.seconds = finished
    return found


def pod(*live: ContainerInstance, terminated: tuple[tuple[ContainerInstance, ...], ...] = ()) -> Pod:
    found = Pod(id="x", name="n", live_instances=live)
    for bucket in terminated:
        found.terminated_instances.add().instances.extend(bucket)
    return found


def buckets(found: Pod) -> list[list[str]]:
    return [[i.instance_id.id for i in bucket.instances] for bucket in found.terminated_instances]


def live(found: Pod) -> list[str]:
    return [i.instance_id.id for i in found.live_instances]


def test_a_first_pod_is_stored_as_sent_but_for_what_has_ended() -> None:
    old = instance(id="old", finished=1)
    found = merged(pod(instance(id="a"), instance(id="b", finished=2), terminated=((old,),)), None)
    assert live(found) == ["a"]
    assert buckets(found) == [["old", "b"]]


def test_terminated_instances_are_those_that_are_stored() -> None:
    stored = pod(terminated=((instance(id="kept", finished=1),),))
    sent = pod(instance(id="a"), terminated=((instance(id="ignored", finished=1),),))
    found = merged(sent, stored)
    assert (live(found), buckets(found)) == (["a"], [["kept"]])


def test_ended_instances_move_to_the_end_of_their_containers_bucket() -> None:
    stored = pod(terminated=((instance("a", "a1", 1),), (instance("b", "b1", 1),)))
    sent = pod(instance("b", "b2", 2), instance("a", "a2", 2), instance("c", "c1", 2), instance("c", "c2"))
    found = merged(sent, stored)
    assert live(found) == ["c2"]
    assert buckets(found) == [["a1", "a2"], ["b1", "b2"], ["c1"]]


def test_a_bucket_keeps_the_newest() -> None:
    found = pod()
    for number in range(KEPT + 3):
        found = merged(pod(instance(id=str(number), finished=number + 1)), found)
    assert buckets(found) == [[str(number) for number in range(3, KEPT + 3)]]


def test_feeding_the_same_again_changes_nothing() -> None:
    sent = pod(instance(id="a"), instance(id="b", finished=2))
    once = merged(sent, None)
    assert merged(sent, once) == once
    # Another run of the same container is another instance, even without an id.
    twice = merged(pod(instance(id="b", finished=3)), once)
    assert buckets(twice) == [["b", "b"]]


def test_the_rest_of_the_pod_is_the_sent_one() -> None:
    stored, sent = pod(), pod()
    stored.namespace, sent.namespace, sent.name = "old", "new", "other"
    sent.started.seconds = 5
    found = merged(sent, stored)
    assert (found.namespace, found.name, found.started.seconds) == ("new", "other", 5)
    assert sent.live_instances == [] and stored.namespace == "old"


def test_an_empty_bucket_is_nobodys() -> None:
    stored = pod(terminated=((),))
    found = merged(pod(instance(id="a", finished=1)), stored)
    assert buckets(found) == [[], ["a"]]
