"""What the server prints once it listens: where, for whom, and a first request to paste."""

import shlex

from video_calls_server.api.ids import Ids, ids_of
from video_calls_server.api.jwt import make_token
from video_calls_server.command.contract_config import JWT_LIFETIME
from video_calls_server.domain.people import Person
from video_calls_server.settings import DEVELOPMENT_JWT_SECRET, Settings
from video_calls_server.store.seed import Seed

_SHOWN = 8


def banner(settings: Settings, url: str, database: str, people: Seed, *, options: str) -> str:
    """Where the server is, who is seeded, and a curl line that works when pasted.

    `options` are those that the other commands need in order to see the same people, such as ` --seed FILE`.
    """
    lines = [
        "",
        *([f"  Console           {url}/"] if settings.has_control else []),
        f"  Video Calls API   {url}/api/v1/video/",
        f"  Docs              {url}/docs/",
        f"  Contract          {url}/openapi.yaml",
        *([f"  Your frontend     {url}/app/"] if settings.static else []),
        f"  Database          {database}",
        *([_workers(settings.workers)] if settings.workers > 1 else []),
        "",
        *(_person(person, ids_of(settings.ids)) for person in people.people[:_SHOWN]),
        "",
        f"  All people:  video-calls-server identities{options}",
        f"  A token:     video-calls-server token EMAIL{options}",
        "",
        *_first_request(settings, url, people.people, options),
    ]
    if settings.uses_development_project:
        lines += [
            "  AGORA_APP_ID and AGORA_APP_CERTIFICATE are not set: Agora tokens are signed with a public",
            "  development pair, and Agora's servers will not accept them.",
            "",
        ]
    return "\n".join(lines)


def _workers(count: int) -> str:
    return f"  Workers           {count}, therefore without the control API and the console"


def _person(person: Person, ids: Ids) -> str:
    user, doctor, patient = person
    roles = [
        f"doctor {ids.format('doctor', doctor.id)}" if doctor else "",
        f"patient {ids.format('patient', patient.id)}" if patient else "",
    ]
    if not user.active:
        roles.append("inactive")
    return f"    {user.email:<30} {', '.join(filter(None, roles)) or 'neither'}"


def _first_request(settings: Settings, url: str, people: tuple[Person, ...], options: str) -> list[str]:
    active = [user for user, doctor, patient in people if user.active and (doctor or patient)]
    if settings.signing_secret is None or not active:
        return []
    if settings.signing_secret == DEVELOPMENT_JWT_SECRET:
        bearer = make_token(settings, active[0].id, expires_in=JWT_LIFETIME)
    else:  # what a server prints lands in logs, and a token that is worth something does not belong there
        bearer = f"$(video-calls-server token {shlex.quote(active[0].email)}{options})"
    return [
        f"  A first request, as {active[0].email}:",
        "",
        f'    curl -H "Authorization: Bearer {bearer}" {url}/api/v1/video/video-calls/',
        "",
    ]
