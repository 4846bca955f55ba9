"""Checks of the configuration before the first test: the address of the API and the tokens of its users.

Preflight reports only mistakes in the configuration. The tests report violations.
"""

from datetime import UTC, datetime

from video_calls_contract.backend import Backend
from video_calls_contract.config import API_PATH
from video_calls_contract.exceptions import NotTheBackend, Unreachable
from video_calls_contract.exchange import NO_RESPONSE, Exchange, NotJsonError
from video_calls_contract.gateway import NOWHERE
from video_calls_contract.jwt import expiry
from video_calls_contract.run import Run
from video_calls_contract.users import User

_ACTIVE = ("doctor", "patient", "other_doctor", "other_patient", "outsider", "dual_user")
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_MAX_RUN_SECONDS = {"off": 600, "quick": 600, "long": 3600}
"""Seconds for which a token should be valid, by the value of `--fuzz`."""


class PreflightError(Exception):
    """The configuration does not work; the message says what to change."""


def preflight(run: Run) -> None:
    """Check the configuration before the first test.

    Raises:
        PreflightError: if a part of the configuration does not work.
        Unreachable: if the backend limits the requests of these users too strictly.
    """
    _find_api(run)
    run.side_by_side(_check_token, run.users.present(*_ACTIVE))
    if run.users.has("expired"):
        _check_expired(run.users["expired"])
    _check_tokens_differ(run)
    run.notes += run.users.expiring_soon(_MAX_RUN_SECONDS[run.options.fuzz])


def _find_api(run: Run) -> None:
    backend, doctor = run.backend, run.users.doctor
    roots = [backend.base_url]
    if not backend.base_url.endswith(API_PATH):
        roots.insert(0, backend.base_url + API_PATH)
    pages: list[Exchange] = []
    for root in roots:
        try:
            page = doctor.send("GET", f"{root}/video-calls/")
        except NotTheBackend:
            raise
        except Unreachable as error:
            raise PreflightError(f"{error}; is the backend running there, and is base_url right?") from None
        if page.status == NO_RESPONSE:
            raise PreflightError(f"{root} cannot be reached: {page.text}")
        pages.append(page)
        is_redirect = 300 <= page.status < 400  # noqa: PLR2004 (HTTP)
        if not is_redirect and (page.status != _NOT_FOUND or _is_empty_list(doctor, root, page)):
            break
    else:
        raise PreflightError(
            f"there is no Video Calls API at {backend.base_url}: the status of {pages[0].url} is "
            f"{pages[0].status}; base_url is the API's root, such as https://staging.example.com{API_PATH}"
        )
    page = pages[-1]
    backend.base_url = page.url.removesuffix("/video-calls/")
    backend.expect_api(lambda: doctor.authorization)
    if not page.succeeded or not page.object:
        backend.check_origin(page)
    if page.succeeded:
        _check_json(backend, page)


def _check_json(backend: Backend, page: Exchange) -> None:
    """Raise an error if a page is not JSON; but if the list needs a token, the page comes from the API."""
    try:
        _ = page.json
    except NotJsonError:
        if not _needs_token(backend, backend.base_url):
            problem = page.unread or "it is not JSON"
            raise PreflightError(
                f"the response of {page.url} cannot be read: {problem}; is base_url right?"
            ) from None


def _is_empty_list(doctor: User, root: str, page: Exchange) -> bool:
    """Return whether a 404 means an empty list, and not an unknown path."""
    unknown_path = doctor.send("GET", f"{root}{NOWHERE}")
    is_own_text = isinstance(page.object.get("error"), str) and page.object != unknown_path.object
    return is_own_text and _needs_token(doctor.backend, root)


def _needs_token(backend: Backend, root: str) -> bool:
    """Return whether the list refuses a request without a token."""
    return backend.send("GET", f"{root}/video-calls/").status in (_UNAUTHORIZED, _FORBIDDEN)


def _check_token(user: User) -> None:
    # If only one operation refuses a good token, that is a violation, which the tests find.
    if user.list().status != _UNAUTHORIZED or user.get(user.backend.no_call).status != _UNAUTHORIZED:
        return
    expires, reason = expiry(user.token), "the backend does not accept it"
    if expires is not None and expires < datetime.now(UTC):
        reason = f"it expired at {expires:%Y-%m-%d %H:%M:%S} UTC"
    raise PreflightError(
        f"the token of [identities.{user.name}] does not work: {reason}; get a new one of an active user"
    )


def _check_expired(user: User) -> None:
    expires = expiry(user.token)
    if expires is not None and expires > datetime.now(UTC):
        raise PreflightError(
            "the token of [identities.expired] has not expired yet; use one whose `exp` has passed, "
            "or leave it out"
        )


def _check_tokens_differ(run: Run) -> None:
    names: dict[str | None, str] = {}
    for user in run.users.present(*_ACTIVE):
        other = names.setdefault(user.authorization, user.name)
        if other != user.name:
            raise PreflightError(
                f"[identities.{other}] and [identities.{user.name}] have the same token; "
                "they must be different users"
            )
