"""Coming, going, and coming back to where one was."""

from __future__ import annotations

from shared.pb.roundhouse.admin.v1 import access_pb2, access_pb2_grpc
from shared.rpc.client import Client
from tests.console.harness import Console


async def code_for(console: Console, subject: str = "ada", role: str = "operator") -> str:
    async with Client(console.service.target, token=console.service.tokens["admin"]) as client:
        made = await client.call(
            access_pb2_grpc.AccessServiceStub,
            "CreateSignInCode",
            access_pb2.CreateSignInCodeRequest(subject=subject, role=role),
        )
    return str(made.code)


async def test_a_link_signs_in_once_and_only_by_its_button(console: Console):
    code = await code_for(console)
    for _ in range(3):  # previews and reloads do not use it up
        page = await console.get(f"/sign-in?code={code}&next=/experiments")
        assert page.status == 200
        assert page.dom.button("Sign in with this link")
    answer = await console.post("/sign-in", {"code": code, "next": "/experiments"})
    assert (answer.status, answer.url) == (200, "/experiments")
    assert "ada" in answer.text
    async with console.stranger() as other:
        again = await other.post("/sign-in", {"code": code})
        assert again.status == 401
        assert "was used or has expired" in again.words


async def test_a_token_signs_in_and_leads_back(console: Console):
    page = await console.get("/experiments?state=all&q=a%20b")
    assert page.url.startswith("/sign-in")
    target = page.dom.find("input", name="next")[0].attrs["value"]
    answer = await console.post("/sign-in", {"token": console.service.tokens["viewer"], "next": target})
    assert answer.url == "/experiments?state=all&q=a%20b"


async def test_a_token_pasted_with_line_ends_is_read(console: Console):
    token = console.service.tokens["viewer"]
    answer = await console.post("/sign-in", {"token": f"\n {token[:30]}\n{token[30:]}\n"})
    assert (answer.status, answer.url) == (200, "/")


async def test_wrong_tokens_say_so_and_start_no_session(console: Console):
    for token, status in (("", 400), ("nonsense", 401), (console.service.tokens["viewer"][:-3], 401)):
        answer = await console.post("/sign-in", {"token": token})
        assert answer.status == status
        assert answer.dom.find("p", role="alert")
    assert (await console.get("/", allow_redirects=False)).status == 303


async def test_signing_out_revokes_the_sessions_own_token(console: Console):
    await console.post("/sign-in", {"code": await code_for(console)})
    jar = {c.key: c.value for c in console.http.cookie_jar}
    await console.post("/sign-out")
    assert (await console.get("/", allow_redirects=False)).status == 303
    # Whoever kept the cookie has a token that is refused.
    async with console.stranger() as thief:
        answer = await thief.get("/", cookies=jar, allow_redirects=False)
        assert answer.status == 303
        assert "ended=1" in answer.headers["Location"]


async def test_signing_out_leaves_a_pasted_token_good(console: Console):
    await console.sign_in("operator")
    await console.post("/sign-out")
    assert (await console.sign_in("operator")).url == "/"


async def test_a_revoked_token_ends_the_session_and_comes_back_to_the_page(console: Console):
    await console.post("/sign-in", {"code": await code_for(console, "bob", "viewer")})
    page = await console.get("/experiments")
    assert page.status == 200
    async with console.stranger() as admin:
        await admin.sign_in("admin")
        tokens = await admin.get("/access")
        form = next(
            e.attrs["action"]
            for e in tokens.dom.find("form")
            if e.attrs.get("action", "").endswith("/revoke")
            and row_of(tokens.text, e.attrs["action"]) == "bob"
        )
        assert "Revoked the token of bob" in (await admin.post(form)).text
    answer = await console.get("/experiments/new?display_name=kept", allow_redirects=False)
    assert answer.status == 303
    assert answer.headers["Location"] == "/sign-in?next=%2Fexperiments%2Fnew%3Fdisplay_name%3Dkept&ended=1"


def row_of(text: str, action: str) -> str:
    row = text[: text.index(action)].rpartition("<tr>")[2]
    return row.partition('<td class="c-name">')[2].partition("<")[0].strip()


async def test_someone_signed_in_is_not_asked_again(console: Console):
    await console.sign_in("viewer")
    answer = await console.get("/sign-in?next=/experiments", allow_redirects=False)
    assert answer.headers["Location"] == "/experiments"


async def test_a_sign_in_never_leads_to_another_host(console: Console):
    answer = await console.post(
        "/sign-in",
        {"token": console.service.tokens["viewer"], "next": "//evil.example"},
        allow_redirects=False,
    )
    assert answer.headers["Location"] == "/"
