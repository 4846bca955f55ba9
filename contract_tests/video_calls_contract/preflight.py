"""Whether a run can do its work: the backend answers, at this address, to these people.

Everything here is about the configuration. What may be the backend's fault is left to the tests.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from video_calls_contract.backend import Backend, Person
from video_calls_contract.config import API_PATH
from video_calls_contract.exchange import NO_ANSWER, Exchange, NotJsonError
from video_calls_contract.gateway import NOWHERE
from video_calls_contract.jwt import claims
from video_calls_contract.outcomes import NotTheBackend, Unreachable
from video_calls_contract.run import Run

__all__ = ["PreflightError", "preflight"]

_ACTIVE = ("doctor", "patient", "other_doctor", "other_patient", "outsider", "dual_user")
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_LONGEST_RUN = {"off": 600, "quick": 600, "long": 3600}
"""Seconds for which a token should last, by the length of generated requests."""


class PreflightError(Exception):
    """The suite could not do its work; the message says what to mend."""


def preflight(run: Run) -> None:
    """Look before the first test.

    Raises:
        PreflightError: something of the configuration does not work.
        Unreachable: the backend limits these users' requests too strictly.
    """
    _find_api(run)
    with ThreadPoolExecutor(run.options.jobs) as pool:
        list(pool.map(_check_token, run.people.present(*_ACTIVE)))
    if run.people.has("expired"):
        _check_expired(run.people["expired"])
    _check_different(run)
    run.notes += run.people.lapsing(_LONGEST_RUN[run.options.fuzz])


def _find_api(run: Run) -> None:
    backend, doctor = run.backend, run.people.doctor
    roots = [backend.base_url]
    if not backend.base_url.endswith(API_PATH):
        roots.insert(0, backend.base_url + API_PATH)
    answers: list[Exchange] = []
    for root in roots:
        try:
            exchange = doctor.send("GET", f"{root}/video-calls/")
        except NotTheBackend:
            raise
        except Unreachable as error:
            raise PreflightError(f"{error}; is the backend running there, and base_url right?") from None
        if exchange.status == NO_ANSWER:
            raise PreflightError(f"{root} cannot be reached: {exchange.text}")
        answers.append(exchange)
        moved = 300 <= exchange.status < 400  # noqa: PLR2004 (HTTP)
        if not moved and (exchange.status != _NOT_FOUND or _is_list(doctor, root, exchange)):
            break
    else:
        raise PreflightError(
            f"there is no Video Calls API at {backend.base_url}: {answers[0].url} was answered "
            f"{answers[0].status}; base_url is the API's root, such as https://staging.example.com{API_PATH}"
        )
    backend.base_url = answers[-1].url.removesuffix("/video-calls/")
    backend.expect_api(lambda: doctor.authorization)
    if not answers[-1].succeeded or not answers[-1].object:
        backend.check_origin(answers[-1])
    if answers[-1].succeeded:
        _check_json(backend, answers[-1])


def _check_json(backend: Backend, page: Exchange) -> None:
    """Tell a page that the API answers, whatever it is, from that of something else."""
    try:
        _ = page.json
    except NotJsonError:
        if not _wants_token(backend, backend.base_url):
            what = page.unread or "it is something else than JSON"
            raise PreflightError(
                f"the answer of {page.url} cannot be read: {what}; is base_url right?"
            ) from None


def _is_list(doctor: Person, root: str, missing: Exchange) -> bool:
    """Whether a 404 comes from the list, because there are no calls, and not from an unknown path."""
    nowhere = doctor.send("GET", f"{root}{NOWHERE}")
    is_own_text = isinstance(missing.object.get("error"), str) and missing.object != nowhere.object
    return is_own_text and _wants_token(doctor.backend, root)


def _wants_token(backend: Backend, root: str) -> bool:
    """Whether the list is refused to those who send no token."""
    return backend.send("GET", f"{root}/video-calls/").status in (_UNAUTHORIZED, _FORBIDDEN)


def _check_token(person: Person) -> None:
    if person.list().status != _UNAUTHORIZED:
        return
    # One operation alone that refuses a good token would be the backend's fault.
    if person.get(person.backend.no_call).status != _UNAUTHORIZED:
        return
    expires = claims(person.token).get("exp")
    why = "the backend does not accept it"
    if isinstance(expires, int | float) and expires < datetime.now(UTC).timestamp():
        why = f"it expired at {datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M:%S} UTC"
    raise PreflightError(
        f"the token of [identities.{person.name}] does not work: {why}; get a fresh one, of an active user"
    )


def _check_expired(person: Person) -> None:
    expires = claims(person.token).get("exp")
    if isinstance(expires, int | float) and expires > datetime.now(UTC).timestamp():
        raise PreflightError(
            "the token of [identities.expired] has not expired yet; give one whose `exp` has passed, "
            "or leave it out"
        )


def _check_different(run: Run) -> None:
    seen: dict[str | None, str] = {}
    for person in run.people.present(*_ACTIVE):
        other = seen.setdefault(person.authorization, person.name)
        if other != person.name:
            raise PreflightError(
                f"[identities.{other}] and [identities.{person.name}] have the same token; "
                "they are different people"
            )
