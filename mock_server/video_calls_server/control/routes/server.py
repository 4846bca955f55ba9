"""Routes about the server itself: its settings, the contract's rules, namespaces and Agora tokens."""

from datetime import datetime
from importlib.metadata import version
from typing import Literal

from litestar import Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Struct
from video_calls_spec import RULES, Level

from video_calls_server.api.routes import API_ROOT
from video_calls_server.control.namespaces import Namespace, Namespaces
from video_calls_server.control.refusals import ControlRefusal, not_found
from video_calls_server.settings import Settings
from video_calls_server.store import calls as store_calls


class ServerState(Struct):
    """The server. `agora` is `development` if Agora's servers do not accept its tokens."""

    version: str
    namespace: str
    agora: Literal["development", "configured"]
    app_id: str
    key_required: bool
    tokens: bool
    notifications: bool
    events_url: str


class CatalogueRule(Struct):
    """A rule of the contract's catalogue, `x-rules`."""

    id: str
    level: Level
    section: str
    statement: str
    summary: str
    operation: str
    status: int
    error: str | None


class NamespaceState(Struct):
    """A namespace. The name of the default one is empty."""

    name: str
    created_at: datetime
    idle_seconds: float
    calls: int


class AgoraToken(Struct, forbid_unknown_fields=True):
    """An Agora token. The signature of version 006 can only be checked with the channel and the uid."""

    token: str
    channel_name: str | None = None
    uid: int | None = None


class AgoraTokenContent(Struct):
    """The content of a token. Version 006 has no channel, uid or time of issue. Times are in UTC."""

    version: Literal["006", "007"]
    app_id: str
    channel_name: str | None
    uid: str | None
    issued_at: datetime | None
    expires_at: datetime
    privileges: dict[str, datetime]
    signature_valid: bool | None


@get("/rules", summary="List the rules of the contract")
async def list_rules() -> list[CatalogueRule]:
    """Return the rules of the contract, with their sentences in the API document."""
    names = CatalogueRule.__struct_fields__
    return [CatalogueRule(*(getattr(rule, name) for name in names)) for rule in RULES.values()]


def server_router(settings: Settings, namespaces: Namespaces) -> Router:
    """Return the operations on the server itself."""
    project = settings.agora_project

    @get("/server", summary="Read how the server is set up")
    async def read_server(namespace: NamedDependency[Namespace]) -> ServerState:
        return ServerState(
            version=version("video-calls"),
            namespace=namespace.name,
            agora="development" if settings.uses_development_project else "configured",
            app_id=project.app_id,
            key_required=settings.control_key is not None,
            tokens=settings.signing_secret is not None,
            notifications=settings.agora_ncs_secret is not None,
            events_url=f"{API_ROOT}/events/",
        )

    @get("/namespaces", summary="List the namespaces")
    async def list_namespaces() -> list[NamespaceState]:
        return [
            NamespaceState(
                each.name,
                each.created_at,
                round(each.idle_seconds, 1),
                await each.store.read(store_calls.count_all_calls),
            )
            for each in await namespaces.all()
        ]

    @delete("/namespaces/{name:str}", summary="Drop a namespace")
    async def drop_namespace(name: FromPath[str]) -> None:
        if not await namespaces.drop(name):
            raise not_found(f"namespace {name!r}")

    @post("/agora/inspect", status_code=200, summary="Read an Agora token")
    async def inspect_agora_token(data: JSONBody[AgoraToken]) -> AgoraTokenContent:
        from video_calls_sdk.agora import InvalidTokenError, Privilege, inspect_token

        try:
            info = inspect_token(data.token)
        except InvalidTokenError as error:
            raise ControlRefusal(str(error), field="token") from error
        is_verifiable = info.version == "007" or (data.channel_name is not None and data.uid is not None)
        return AgoraTokenContent(
            version=info.version,
            app_id=info.app_id,
            channel_name=info.channel_name,
            uid=info.account,
            issued_at=info.issued_at,
            expires_at=info.expires_at,
            privileges={
                privilege.name.lower() if isinstance(privilege, Privilege) else str(privilege): time
                for privilege, time in info.privileges.items()
            },
            signature_valid=info.verify(project.app_certificate, channel_name=data.channel_name, uid=data.uid)
            if is_verifiable
            else None,
        )

    handlers = [read_server, list_rules, list_namespaces, drop_namespace, inspect_agora_token]
    return Router("/", route_handlers=handlers, tags=["server"])
