"""Answers put together by hand are what protobuf itself would write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb
from shared.rpc import frames

EXPERIMENTS = st.builds(pb.Experiment, experiment_id=st.text(max_size=40), display_name=st.text(max_size=300))


@given(st.lists(EXPERIMENTS, max_size=5), st.text(max_size=300), st.integers(0, 2**31 - 1))
def test_a_list_is_byte_for_byte_what_protobuf_writes(
    experiments: list[pb.Experiment], token: str, total: int
) -> None:
    wanted = pb.ListExperimentsResponse(experiments=experiments, next_page_token=token, total_size=total)
    built = (
        frames.messages(1, [e.SerializeToString() for e in experiments])
        + frames.text(2, token)
        + frames.integer(3, total)
    )
    assert built == wanted.SerializeToString()
