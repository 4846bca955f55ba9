"""Generates cases with Schemathesis: for one operation, and for chains that follow the contract's links."""

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema

from video_calls_contract.exceptions import Violation
from video_calls_contract.exchange import Exchange
from video_calls_contract.fuzzing.fuzzer import NO_TOKEN, Case, Fuzzer
from video_calls_contract.fuzzing.knowledge import ACTIONS
from video_calls_contract.run import Run
from video_calls_contract.schema import contract

_EXAMPLES = (("page", "1"), ("page_size", "20"))
_HEALTH_CHECKS = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
)


_GENERATION_LOCK = threading.Lock()
"""Held while Hypothesis generates: it parses code, and two threads of CPython 3.11 cannot do so at once."""


@contextmanager
def _released_lock() -> Generator[None]:
    """Let other threads generate while this one sends a request."""
    _GENERATION_LOCK.release()
    try:
        yield
    finally:
        _GENERATION_LOCK.acquire()


def prepare() -> None:
    """Let Hypothesis compute the characters of UTF-8 in advance, because this takes a second."""
    with _GENERATION_LOCK:
        st.characters(codec="utf-8").validate()


def fuzz_operation(run: Run, operation: str) -> None:
    """Send an operation valid and invalid requests.

    Raises:
        Violation: if a response breaks the contract; its request is the smallest that Hypothesis finds.
    """
    fuzzer = Fuzzer(run)
    schema: Any = _schema(long=fuzzer.long)  # Schemathesis makes the class of its cases at run time
    target = schema.find_operation_by_id(operation)
    state = ACTIONS[operation].prepared_in if operation in ACTIONS else None
    # Generate these before the calls, because the calls reserve users that other tests need, too.
    with _GENERATION_LOCK:
        boundaries = list(_boundaries(schema, target))
    with fuzzer.prepared_calls(state), _raise_results(fuzzer), _GENERATION_LOCK:
        for number, case in enumerate(boundaries):
            has_token = "Authorization" in case.headers
            with _released_lock():
                fuzzer.send_case(case, 1 + number % 2 if has_token else NO_TOKEN - 1)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(run.options.seed)
            @_settings(1000 if fuzzer.long else 7)
            @given(target.as_strategy(generation_mode=mode), st.integers(1, 239))
            def send(case: Case, choice: int) -> None:
                with _released_lock():
                    fuzzer.send_case(case, choice)

            send()


def fuzz_links(run: Run) -> None:
    """Follow the links of the contract: create or list calls, then get, join, end and cancel them.

    Raises:
        Violation: if a response breaks the contract.
    """
    fuzzer = Fuzzer(run)

    def call(machine: Any, case: Case, **_: object) -> Response:  # noqa: ANN401 (its class is made at run time)
        machine.steps = getattr(machine, "steps", 0) + 1
        with _released_lock():
            exchange = fuzzer.send_case(case, machine.steps)
        return _response(exchange)

    def skip(*_: object, **__: object) -> None:
        """Skip Schemathesis's checks: `call` has checked the response."""

    chains = type(
        "Chains",
        (_schema(long=fuzzer.long).as_state_machine(),),
        {"call": call, "validate_response": skip, "_hypothesis_internal_use_seed": run.options.seed},
    )
    with fuzzer.prepared_calls("scheduled"), _raise_results(fuzzer), _GENERATION_LOCK:
        cast("Any", chains).run(settings=_settings(400 if fuzzer.long else 8, stateful_step_count=6))


@contextmanager
def _raise_results(fuzzer: Fuzzer) -> Generator[None]:
    """After the block, raise the last violation: Hypothesis shrinks, so its request is the smallest.

    Without a violation, raise the error that stopped the fuzzer, if any.
    """
    # Hypothesis raises an error if a repeated request gets another response; the violation is still valid.
    with suppress(Violation, HypothesisException):
        yield
    if fuzzer.violation is not None:
        raise fuzzer.violation from None
    if fuzzer.stopped is not None:
        raise fuzzer.stopped from None


def _settings(examples: int, **options: Any) -> settings:  # noqa: ANN401 (passed on)
    """Return a value for every setting, so that no profile (such as Hypothesis's for CI) changes a run."""
    return settings(
        max_examples=examples,
        database=None,
        derandomize=False,
        verbosity=Verbosity.quiet,
        backend="hypothesis",
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=_HEALTH_CHECKS,
        print_blob=False,
        **options,
    )


@contextmanager
def _without_hooks() -> Generator[None]:
    """Hide the user's own hooks, which Schemathesis loads with every configuration."""
    hooks = os.environ.pop("SCHEMATHESIS_HOOKS", None)
    try:
        yield
    finally:
        if hooks is not None:
            os.environ["SCHEMATHESIS_HOOKS"] = hooks


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


def _boundaries(schema: Any, operation: Any) -> Iterator[Case]:  # noqa: ANN401 (generic)
    """Yield Schemathesis's coverage cases, without duplicates and without cases of other media types."""
    keys: set[str] = set()
    cases: Iterator[Case] = schema.iter_coverage_cases(
        operation,
        generation_modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE],
        generation_config=schema.config.generation_for(operation=operation, phase="coverage"),
    )
    for case in cases:
        # Ignore examples in the query: cases that differ only in them are duplicates.
        query = {name: value for name, value in case.query.items() if (name, value) not in _EXAMPLES}
        key = repr((case.path_parameters, query, case.body, "Authorization" in case.headers))
        is_of_operation = case.method == operation.method.upper() and "Content-Type" not in case.headers
        if is_of_operation and key not in keys:
            keys.add(key)
            yield case


def _response(exchange: Exchange | None) -> Response:
    """Return a response in which Schemathesis finds the links to follow; a 404 if nothing was sent."""
    request = requests.Request("GET", "http://backend.invalid").prepare()
    if exchange is None:
        return Response(404, {}, b"", request, elapsed=0, verify=True)
    headers = {name: [value] for name, value in exchange.headers.items()}
    return Response(exchange.status, headers, exchange.content, request, elapsed=0, verify=True)
