"""The first step of each API request: check the path's spelling, the caller's JWT and the rate limit."""

from litestar.exceptions import MethodNotAllowedException
from litestar.routes import HTTPRoute

from video_calls_server.api.errors import AnyRequest, Refusal
from video_calls_server.api.jwt import CHALLENGE, TokenVerifier
from video_calls_server.api.parsing import header
from video_calls_server.world import world_of


async def authenticate(request: AnyRequest) -> None:
    """Set the request's user, before any other part of the request is read ("Authentication").

    Litestar also serves paths without the final slash or with empty segments. This function refuses them,
    because the contract does not have them.

    Raises:
        Refusal: if the path is not spelled as in the contract, if the caller is not an active user, or if the
            caller has sent too many requests.
        MethodNotAllowedException: if the method is OPTIONS and the request is not a preflight.
    """
    scope = request.scope
    path = (scope.get("raw_path") or b"").partition(b"?")[0]  # some test clients add the query
    if path and (not path.endswith(b"/") or b"//" in path or b"%2f" in path.lower()):
        raise Refusal("errors.trailing-slash", {})
    if request.method == "OPTIONS":
        # This is not a preflight: the CORS middleware has already answered those. The 405 comes from here,
        # because Litestar's own would list only one method of the path.
        methods = {
            method
            for route in request.app.routes
            if isinstance(route, HTTPRoute) and route.path_format == scope["path_template"]
            for method in route.methods
        }
        raise MethodNotAllowedException(headers={"allow": ", ".join(methods)})
    verifier: TokenVerifier = request.app.state.verifier
    operations = world_of(scope).operations
    verified = await verifier.verify(header(scope, b"authorization"))
    actor = await operations.authenticate(verified.user)
    if actor is None:
        raise Refusal("auth.active-user", CHALLENGE)
    wait = await operations.retry_after(actor)
    if wait is not None:
        text = f"Too many requests; try again in {wait} second{'' if wait == 1 else 's'}"
        raise Refusal("limits.rate", {"Retry-After": str(wait)}, error=text)
    scope["user"] = actor
