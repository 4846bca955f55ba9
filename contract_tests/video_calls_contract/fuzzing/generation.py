"""What Schemathesis generates from the contract: for an operation, and along the links between them."""

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import HypothesisException
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema

from video_calls_contract.exchange import Exchange
from video_calls_contract.fuzzing.fuzzer import UNSIGNED, Case, Fuzzer
from video_calls_contract.fuzzing.knowledge import ACTIONS
from video_calls_contract.outcomes import Violation
from video_calls_contract.run import Run
from video_calls_contract.schema import contract

set_hypothesis_home_dir(os.devnull)  # it keeps no files, neither where the run was started nor elsewhere

_EXAMPLES = (("page", "1"), ("page_size", "20"))
_UNHURRIED = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
)


_GENERATING = threading.Lock()
"""Held while Hypothesis generates: it parses code, which two threads of CPython 3.11 cannot do at once."""


@contextmanager
def _other_threads() -> Generator[None]:
    """Let other threads generate while this one sends a request."""
    _GENERATING.release()
    try:
        yield
    finally:
        _GENERATING.acquire()


def fuzz_operation(run: Run, operation: str) -> None:
    """Send an operation everything that its schema describes, and what it forbids.

    Raises:
        Violation: an answer is not what the contract says; the request is the smallest that was found.
    """
    fuzzer = Fuzzer(run)
    described: Any = _schema(long=fuzzer.long)  # generic over what it is made from
    target = described.find_operation_by_id(operation)
    near = ACTIONS[operation].prepared_in if operation in ACTIONS else None
    with fuzzer.calls_to_work_on(near), _told_of(fuzzer), _GENERATING:
        for number, case in enumerate(_boundaries(described, target)):
            unsigned = "Authorization" not in case.headers
            with _other_threads():
                fuzzer.try_case(case, UNSIGNED - 1 if unsigned else 1 + number % 2)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(run.options.seed)
            @_settings(1000 if fuzzer.long else 7)
            @given(target.as_strategy(generation_mode=mode), st.integers(1, 239))
            def answered(case: Case, dice: int) -> None:
                with _other_threads():
                    fuzzer.try_case(case, dice)

            answered()


def fuzz_links(run: Run) -> None:
    """Walk along the contract's links: create or list, then get, join, end and cancel what came back.

    Raises:
        Violation: an answer is not what the contract says.
    """
    fuzzer = Fuzzer(run)
    machine_of_links = _schema(long=fuzzer.long).as_state_machine()

    def call(machine: Any, case: Case, **_: object) -> Response:  # noqa: ANN401 (made at run time)
        machine.steps = getattr(machine, "steps", 0) + 1
        with _other_threads():
            exchange = fuzzer.try_case(case, machine.steps)
        return _response(exchange)

    def judged_already(*_: object, **__: object) -> None:
        """`call` has judged the answer."""

    chains = type(
        "Chains",
        (machine_of_links,),
        {
            "call": call,
            "validate_response": judged_already,
            "_hypothesis_internal_use_seed": run.options.seed,
        },
    )
    with fuzzer.calls_to_work_on("scheduled"), _told_of(fuzzer), _GENERATING:
        cast("Any", chains).run(settings=_settings(400 if fuzzer.long else 8, stateful_step_count=6))


@contextmanager
def _told_of(fuzzer: Fuzzer) -> Generator[None]:
    """Raise what a fuzzer found, the last being the smallest, and what kept it from going on."""
    # A backend whose answers differ from time to time cannot be reduced to one request; it is judged by those
    # that were sent.
    with suppress(Violation, HypothesisException):
        yield
    if fuzzer.found is not None:
        raise fuzzer.found from None
    if fuzzer.stopped is not None:
        raise fuzzer.stopped from None


def _settings(examples: int, **options: Any) -> settings:  # noqa: ANN401 (passed on)
    """Every setting, so that no profile, such as Hypothesis's own for CI, has a part in a run."""
    return settings(
        max_examples=examples,
        database=None,
        derandomize=False,
        verbosity=Verbosity.quiet,
        backend="hypothesis",
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=_UNHURRIED,
        print_blob=False,
        **options,
    )


@contextmanager
def _without_hooks() -> Generator[None]:
    """Hide the hooks of the user's own Schemathesis, which it loads with every configuration."""
    own = os.environ.pop("SCHEMATHESIS_HOOKS", None)
    try:
        yield
    finally:
        if own is not None:
            os.environ["SCHEMATHESIS_HOOKS"] = own


def _schema(*, long: bool) -> OpenApiSchema:
    valid_only: dict[str, Any] = {"generation": {"mode": "positive"}, "inference": {"algorithms": []}}
    with _without_hooks():
        config = SchemathesisConfig.from_dict(
            {
                "base-url": "http://backend.invalid",
                "generation": {"database": "none", "allow-x00": long, "codec": "utf-8"},
                "phases": {"coverage": {"unexpected-methods": []}, "stateful": valid_only},
            }
        )
        return schemathesis.openapi.from_dict(contract(), config=config)


def _boundaries(described: Any, operation: Any) -> Iterator[Case]:  # noqa: ANN401 (generic)
    """Schemathesis' coverage cases, each once, but for those that are about media types alone."""
    seen: set[str] = set()
    cases: Iterator[Case] = described.iter_coverage_cases(
        operation,
        generation_modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE],
        generation_config=described.config.generation_for(operation=operation, phase="coverage"),
    )
    for case in cases:
        signed = "Authorization" in case.headers
        # The other parameter's example changes nothing.
        query = {name: value for name, value in case.query.items() if (name, value) not in _EXAMPLES}
        told = repr((case.path_parameters, query, case.body, signed))
        if (
            case.method == operation.method.upper()
            and "Content-Type" not in case.headers
            and told not in seen
        ):
            seen.add(told)
            yield case


def _response(exchange: Exchange | None) -> Response:
    """An answer as Schemathesis reads it, to follow its links; nothing was found where there is none."""
    asked = requests.Request("GET", "http://backend.invalid").prepare()
    if exchange is None:
        return Response(404, {}, b"", asked, elapsed=0, verify=True)
    headers = {name: [value] for name, value in exchange.headers.items()}
    return Response(exchange.status, headers, exchange.content, asked, elapsed=0, verify=True)
