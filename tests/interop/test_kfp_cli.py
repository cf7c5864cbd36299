"""The `kfp experiment` commands of both generations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.interop.clients import House, command

pytestmark = [
    pytest.mark.interop,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("kfp-cli"),
]


def signed_in(house: House, environment: str, who: str) -> list[str]:
    """What makes the command line send a token. The first generation has no option for it: a header
    in its context file, as the SDK reads it."""
    context = house.home / ".config" / "kfp" / "context.json"
    if environment == "kfp-2":
        # It would prefer what the first generation left there.
        context.unlink(missing_ok=True)
        return ["--existing-token", house.tokens[who]]
    context.parent.mkdir(parents=True, exist_ok=True)
    context.write_text(
        json.dumps(
            {
                "namespace": "",
                "client_authentication_header_name": "Authorization",
                "client_authentication_header_value": f"Bearer {house.tokens[who]}",
            }
        )
    )
    return []


def shown(written: str) -> Any:
    """The JSON that a command ends with, whatever it says before."""
    lines = written.splitlines()
    start = next(number for number, line in enumerate(lines) if line[:1] in ("{", "["))
    return json.loads("\n".join(lines[start:]))


@pytest.mark.parametrize("environment", ["kfp-1", "kfp-2"])
async def test_a_life(served: House, environment: str) -> None:
    first = environment == "kfp-1"
    identifier_of, name_of = ("ID", "Name") if first else ("experiment_id", "display_name")
    listed_id = "Experiment ID" if first else "experiment_id"

    async def kfp(*arguments: str, who: str = "operator", answers: str = "", fails: int = 0) -> str:
        login = signed_in(served, environment, who)
        status, written = await command(
            served, environment, *login, "experiment", *arguments, answers=answers
        )
        assert (status != 0) == bool(fails), written
        assert not fails or f"({fails})" in written
        return written

    name = f"{environment} by command"
    made = shown(await kfp("create", "-d", "text", name))
    assert made[name_of] == name
    identifier = made[identifier_of]
    assert shown(await kfp("get", identifier)) == made
    assert identifier in {item[listed_id] for item in shown(await kfp("list", who="viewer"))}
    await kfp("archive", "--experiment-name", name)
    spelled = "op" if first else "operation"
    predicate = {spelled: "EQUALS", "key": "storage_state", "string_value": "ARCHIVED"}
    archived = await kfp("list", "--filter", json.dumps({"predicates": [predicate]}), "-m", "5")
    assert identifier in {item[listed_id] for item in shown(archived)}
    if not first:
        await kfp("unarchive", "--experiment-id", identifier)
        assert shown(await kfp("get", identifier))["storage_state"] == "AVAILABLE"
    assert "experiments.delete" in await kfp("delete", identifier, answers="y\n", who="viewer", fails=403)
    await kfp("delete", identifier, answers="y\n")
    assert identifier in await kfp("get", identifier, fails=404)
