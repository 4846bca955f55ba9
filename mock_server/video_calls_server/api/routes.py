"""The handlers of the contract's six operations. A test compares them with the contract."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from litestar import Request, Router, get, post
from litestar.types import Middleware

from video_calls_server._structs import JoinCredentials, VideoCall, VideoCallPage
from video_calls_server.api.authentication import authenticate
from video_calls_server.api.ids import Ids
from video_calls_server.api.json_response import JsonResponse
from video_calls_server.api.parsing import json_object, paging, proposal
from video_calls_server.api.representation import video_call, with_ids
from video_calls_server.domain.calls import Call
from video_calls_server.domain.people import Actor
from video_calls_server.operations import Operations
from video_calls_server.world import world_of

API_ROOT = "/api/v1/video"

ApiRequest = Request[Actor, Any, Any]  # the token's claims and the app's state are untyped in Litestar


def _operations(request: ApiRequest) -> Operations:
    return world_of(request.scope).operations


def _ids(request: ApiRequest) -> Ids:
    return world_of(request.scope).ids


def _represent(request: ApiRequest, call: Call) -> VideoCall:
    return with_ids(video_call(call), _ids(request))


@get("/video-calls/", operation_id="listVideoCalls")
async def list_video_calls(request: ApiRequest) -> JsonResponse:
    """List video calls."""
    number, size = paging(request.query_params)
    page = await _operations(request).page(request.user, page=number, size=size)
    has_next = number * size < page.count
    return JsonResponse(
        VideoCallPage(
            count=page.count,
            next=_page_url(request, number + 1) if has_next else None,
            previous=_page_url(request, number - 1) if number > 1 else None,
            results=[_represent(request, call) for call in page.calls],
        )
    )


@post("/video-calls/", operation_id="createVideoCall")
async def create_video_call(request: ApiRequest) -> JsonResponse:
    """Create a video call."""
    body = json_object(await request.body(), request.headers.get("content-type"))
    key = request.headers.get("idempotency-key")
    created = await _operations(request).create(request.user, proposal(body, key, _ids(request)))
    call = _represent(request, created.call)
    headers = [(b"location", f"{_root(request)}{API_ROOT}/video-calls/{call.id}/".encode())]
    if created.replayed:
        headers.append((b"idempotency-replayed", b"true"))
    return JsonResponse(call, status=201, headers=headers)


@get("/video-calls/{id:str}/", operation_id="getVideoCall")
async def get_video_call(request: ApiRequest) -> JsonResponse:
    """Get a video call."""
    call = await _operations(request).get(request.user, _call_id(request))
    return JsonResponse(_represent(request, call))


@post("/video-calls/{id:str}/join/", operation_id="joinVideoCall")
async def join_video_call(request: ApiRequest) -> JsonResponse:
    """Join a video call."""
    operations = _operations(request)
    joined = await operations.join(request.user, _call_id(request))
    credentials = JoinCredentials(
        channel_name=joined.call.channel_name,
        token=joined.minted.token,
        uid=joined.uid,
        expiration_time=joined.minted.expires_at,
        app_id=operations.app_id,
    )
    return JsonResponse(credentials, headers=[(b"cache-control", b"no-store")])


@post("/video-calls/{id:str}/end/", operation_id="endVideoCall")
async def end_video_call(request: ApiRequest) -> JsonResponse:
    """End a video call."""
    call = await _operations(request).end(request.user, _call_id(request))
    return JsonResponse(_represent(request, call))


@post("/video-calls/{id:str}/cancel/", operation_id="cancelVideoCall")
async def cancel_video_call(request: ApiRequest) -> JsonResponse:
    """Cancel a video call."""
    call = await _operations(request).cancel(request.user, _call_id(request))
    return JsonResponse(_represent(request, call))


def _call_id(request: ApiRequest) -> int | None:
    return _ids(request).parse("call", request.path_params["id"])


def _root(request: ApiRequest) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def _page_url(request: ApiRequest, page: int) -> str:
    """Return the absolute URL of another page, with the other parameters of the request."""
    parameters = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = [pair for pair in parameters if pair[0] != "page"] + [("page", str(page))]
    path = f"{_root(request)}{API_ROOT}/video-calls/"
    return f"{request.url.scheme}://{request.url.netloc}{path}?{urlencode(query)}"


def api_router(middleware: Sequence[Middleware]) -> Router:
    """Return the API under its base path. Every request is authenticated first."""
    return Router(
        API_ROOT,
        route_handlers=[
            list_video_calls,
            create_video_call,
            get_video_call,
            join_video_call,
            end_video_call,
            cancel_video_call,
        ],
        before_request=authenticate,
        middleware=middleware,
    )
