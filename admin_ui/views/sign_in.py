"""Signing in with a one-time link or a token, and out again."""

from __future__ import annotations

import logging

import grpc
from aiohttp import web

from admin_ui import render, session
from admin_ui.presenters import failures
from admin_ui.security import safe_next
from shared.pb.roundhouse.admin.v1 import access_pb2
from shared.rpc.client import CallFailed

log = logging.getLogger(__name__)


async def form(request: web.Request) -> web.StreamResponse:
    """Only shows the page: a preview of a one-time link must not use it up."""
    target = safe_next(request.query.get("next"))
    code = request.query.get("code", "")
    who = request.get(render.PERSON)
    if who is not None and who.verified and not code:
        return render.redirect(target)
    return await _page(request, target=target, code=code, ended="ended" in request.query)


async def submit(request: web.Request) -> web.StreamResponse:
    data = await request.post()
    target = safe_next(str(data.get("next", "")))
    code, token = str(data.get("code", "")).strip(), "".join(str(data.get("token", "")).split())
    if not code and not token:
        return await _page(request, target=target, error="Paste a token first.", status=400)
    clients = request.app[render.CLIENTS]
    try:
        if code:
            anyone = clients.caller("", request_id=request[render.REQUEST_ID])
            redeem = access_pb2.RedeemSignInCodeRequest(code=code)
            token = (await anyone.access("RedeemSignInCode", redeem)).value
        caller = clients.caller(token, request_id=request[render.REQUEST_ID])
        person = await request.app[render.PEOPLE].who(caller, fresh=True)
    except CallFailed as error:
        return await _refused(request, error, target=target, code=bool(code))
    await session.sign_in(
        request,
        token,
        person,
        lasts=request.app[render.CONFIG].console_session.total_seconds(),
        owned=bool(code),
    )
    log.info("signed in", extra={"subject": person.subject, "request_id": request[render.REQUEST_ID]})
    return render.redirect(target)


async def _refused(request: web.Request, error: CallFailed, *, target: str, code: bool) -> web.Response:
    failure = error.failure
    explanation = failures.explain(failure)
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        text = (
            "This sign-in link was used or has expired. Ask for a new one, or paste a token."
            if code
            else "That token is not valid here: it may be cut off, expired or revoked."
        )
        return await _page(request, target=target, error=text, status=401)
    return await _page(
        request, target=target, error=f"{explanation.title}: {failure.message}", status=explanation.status
    )


async def _page(
    request: web.Request,
    *,
    target: str,
    code: str = "",
    ended: bool = False,
    error: str = "",
    status: int = 200,
) -> web.Response:
    values = {"target": target, "code": code, "ended": ended, "error": error}
    return await render.page(request, "sign-in.html", values, status=status)


async def sign_out(request: web.Request) -> web.StreamResponse:
    """Ends the session. A token that was made for it is revoked; a pasted one is the person's own
    and stays good."""
    signed = await session.signed_in(request)
    if signed is not None:
        request.app[render.PEOPLE].forget(signed.token)
        if signed.owned:
            try:
                await render.caller(request).access("SignOut", access_pb2.SignOutRequest())
            except CallFailed as error:
                # The person leaves in any case; the token runs out by itself.
                log.warning("could not revoke a session's token", extra={"error": str(error)})
    await session.sign_out(request)
    return render.redirect("/sign-in")
