"""Access: tokens, users, and links that sign a colleague in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import grpc
from aiohttp import web
from google.protobuf.duration_pb2 import Duration

from admin_ui import render, session
from admin_ui.presenters import failures, moments
from shared.pb.roundhouse.admin.v1 import access_pb2 as pb
from shared.rpc.client import CallFailed

ROLES: Final = {
    "viewer": "sees everything, changes nothing",
    "operator": "creates, archives and deletes",
    "admin": "also decides who may come in",
}
LIFETIMES: Final = {"1": "1 day", "7": "7 days", "30": "30 days", "90": "90 days", "400": "400 days"}
DAY: Final = 86_400
PAGE_SIZE: Final = 50


async def tokens(request: web.Request) -> web.StreamResponse:
    return await _tokens(request)


async def _tokens(request: web.Request, *, status: int = 200, **extra: Any) -> web.Response:
    shown_all = request.query.get("show") == "all"
    answer = await render.caller(request).access(
        "ListTokens",
        pb.ListTokensRequest(
            only_active=not shown_all,
            page_size=PAGE_SIZE,
            page_token=request.query.get("page_token", "") if request.method == "GET" else "",
        ),
    )
    values = {
        "tab": "tokens",
        "tokens": [_token(token, render.person(request).token_id) for token in answer.tokens],
        "next_token": answer.next_page_token,
        "shown_all": shown_all,
        "roles": ROLES,
        "lifetimes": LIFETIMES,
        "typed": {"subject": "", "role": "viewer", "days": "30"},
        "errors": {},
        "problem": None,
        "created": None,
        "link": None,
        **extra,
    }
    return await render.page(request, "access/tokens.html", values, status=status)


def _token(token: pb.Token, own: str) -> dict[str, Any]:
    expires = moments.from_timestamp(token.expire_time)
    revoked = moments.from_timestamp(token.revoke_time)
    state = "revoked" if revoked else "active"
    if not revoked and expires is not None and expires <= datetime.now(UTC):
        state = "expired"
    return {
        "id": token.id,
        "subject": token.subject,
        "role": token.role,
        "creator": token.creator,
        "created": moments.from_timestamp(token.create_time),
        "expires": expires,
        "state": state,
        "own": token.id == own,
    }


async def create_token(request: web.Request) -> web.StreamResponse:
    """Shows the token's value in the answer itself: it is nowhere else to be had afterwards."""
    data = await request.post()
    typed = {name: str(data.get(name, "")).strip() for name in ("subject", "role", "days")}
    days = int(typed["days"]) if typed["days"] in LIFETIMES else 30
    asked = pb.CreateTokenRequest(
        subject=typed["subject"], role=typed["role"], ttl=Duration(seconds=days * DAY)
    )
    try:
        created = await render.caller(request).access("CreateToken", asked)
    except CallFailed as error:
        return await _refused(request, error, typed=typed)
    return await _tokens(request, created={"value": created.value, **_token(created.token, "")})


async def create_link(request: web.Request) -> web.StreamResponse:
    data = await request.post()
    typed = {name: str(data.get(name, "")).strip() for name in ("subject", "role")} | {"days": "30"}
    asked = pb.CreateSignInCodeRequest(subject=typed["subject"], role=typed["role"])
    try:
        made = await render.caller(request).access("CreateSignInCode", asked)
    except CallFailed as error:
        return await _refused(request, error, typed=typed)
    base = request.app[render.CONFIG].public_url.rstrip("/") or str(request.url.origin())
    link = {
        "url": f"{base}/sign-in?{urlencode({'code': made.code})}",
        "subject": typed["subject"],
        "expires": moments.from_timestamp(made.expire_time),
    }
    return await _tokens(request, link=link)


async def _refused(request: web.Request, error: CallFailed, *, typed: dict[str, str]) -> web.Response:
    failure = error.failure
    if failure.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        raise error
    wrong = failures.by_field(failure)
    return await _tokens(
        request,
        status=failures.explain(failure).status,
        typed=typed,
        errors=wrong,
        problem=None if wrong else failure,
    )


async def revoke_token(request: web.Request) -> web.StreamResponse:
    token = await render.caller(request).access(
        "RevokeToken", pb.RevokeTokenRequest(id=request.match_info["id"])
    )
    await session.flash(request, f"Revoked the token of {token.subject}.")
    return render.redirect("/access")


async def users(request: web.Request) -> web.StreamResponse:
    return await _users(request)


async def _users(request: web.Request, *, status: int = 200, **extra: Any) -> web.Response:
    answer = await render.caller(request).access(
        "ListUsers",
        pb.ListUsersRequest(
            page_size=PAGE_SIZE,
            page_token=request.query.get("page_token", "") if request.method == "GET" else "",
        ),
    )
    values = {
        "tab": "users",
        "users": [
            {
                "subject": user.subject,
                "role": user.role,
                "disabled": user.disabled,
                "namespaces": list(user.namespaces),
                "created": moments.from_timestamp(user.create_time),
            }
            for user in answer.users
        ],
        "next_token": answer.next_page_token,
        "roles": ROLES,
        "typed": {"subject": "", "role": "viewer", "namespaces": ""},
        "errors": {},
        "problem": None,
        **extra,
    }
    return await render.page(request, "access/users.html", values, status=status)


async def put_user(request: web.Request) -> web.StreamResponse:
    data = await request.post()
    user = pb.User(
        subject=str(data.get("subject", "")).strip(),
        role=str(data.get("role", "")),
        disabled=data.get("disabled") == "on",
        namespaces=list(dict.fromkeys(str(data.get("namespaces", "")).replace(",", " ").split())),
    )
    try:
        await render.caller(request).access("PutUser", pb.PutUserRequest(user=user))
    except CallFailed as error:
        failure = error.failure
        if failure.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            raise
        wrong = failures.by_field(failure)
        return await _users(
            request,
            status=failures.explain(failure).status,
            typed={"subject": user.subject, "role": user.role, "namespaces": " ".join(user.namespaces)},
            errors=wrong,
            problem=None if wrong else failure,
        )
    change = "disabled" if user.disabled else f"now has the role {user.role}"
    await session.flash(request, f"{user.subject} {change}.")
    return render.redirect("/access/users")
