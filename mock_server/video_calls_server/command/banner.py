"""The banner that the server prints when it listens: its addresses, users and a first request."""

import shlex

from video_calls_server.api.ids import Ids, ids_of
from video_calls_server.api.jwt import make_token
from video_calls_server.command.contract_config import JWT_LIFETIME
from video_calls_server.domain.people import Person
from video_calls_server.settings import DEVELOPMENT_JWT_SECRET, Settings
from video_calls_server.store.seed import Seed

_MOST_USERS = 8
_NO_CONTROL = "without the control API and the console"


def banner(settings: Settings, url: str, database: str, people: Seed, *, options: str) -> str:
    """Return the text of the banner, with a curl command to paste.

    Args:
        settings: the settings of the server.
        url: the URL at which the server listens.
        database: the name of the database.
        people: the users in the database.
        options: the options with which the other commands find the same users, such as ` --seed FILE`.
    """
    lines = [
        "",
        *([f"  Console           {url}/"] if settings.has_control else []),
        f"  Video Calls API   {url}/api/v1/video/",
        f"  Docs              {url}/docs/",
        f"  Contract          {url}/openapi.yaml",
        *([f"  Your frontend     {url}/app/"] if settings.static else []),
        f"  Database          {database}",
        *([f"  Workers           {settings.workers}, {_NO_CONTROL}"] if settings.workers > 1 else []),
        "",
        *(_person(person, ids_of(settings.ids)) for person in people.people[:_MOST_USERS]),
        "",
        f"  All users:   video-calls-server identities{options}",
        f"  A token:     video-calls-server token EMAIL{options}",
        "",
        *_first_request(settings, url, people.people, options),
    ]
    if settings.uses_development_project:
        lines += [
            "  AGORA_APP_ID and AGORA_APP_CERTIFICATE are not set: Agora tokens are signed with a public",
            "  development certificate, and Agora's servers will not accept them.",
            "",
        ]
    return "\n".join(lines)


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
    else:  # print no token, because the output may become a log
        bearer = f"$(video-calls-server token {shlex.quote(active[0].email)}{options})"
    return [
        f"  A first request, as {active[0].email}:",
        "",
        f'    curl -H "Authorization: Bearer {bearer}" {url}/api/v1/video/video-calls/',
        "",
    ]
