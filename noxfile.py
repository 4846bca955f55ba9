"""The checks of the project: `nox` runs the tests, `nox -l` lists the others."""

import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

REDOCLY = "@redocly/cli@2"
SPECTRAL = "@stoplight/spectral-cli@6"

EXTRAS = [
    [],
    ["server"],
    ["contract"],
    ["events"],
    ["testing"],
    ["postgres"],
    ["metrics"],
    ["otel"],
    ["server", "contract"],
]
"""The extras that are installed from the wheel, each in its own environment."""

QUICK = (
    "sdk/tests",
    "mock_server/tests/test_auth.py",
    "mock_server/tests/test_command.py",
    "mock_server/tests/test_create.py",
    "mock_server/tests/test_events.py",
    "mock_server/tests/test_http.py",
    "mock_server/tests/test_life.py",
    "mock_server/tests/test_observability.py",
    "mock_server/tests/test_postgres.py",
    "contract_tests/tests/test_baseline.py",
    "contract_tests/tests/test_command.py",
    "spec/tests/test_contract.py",
)
"""Tests that use every dependency, for sessions with several environments."""

TESTED = dict.fromkeys(
    ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT"), "constraints.txt"
)
"""Variables that make pip and uv use only the versions of constraints.txt."""


def install(session: nox.Session, *packages: str) -> None:
    """Install packages, or the project and its development tools, at the versions of constraints.txt."""
    session.install(*(packages or ("-e", ".[dev]")), env=TESTED)


def group(name: str) -> tuple[str, ...]:
    """Return the packages of a dependency group of pyproject.toml."""
    return nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), name)


def environment(session: nox.Session, directory: Path, *requirements: str) -> str:
    """Create an environment with these requirements, without the checkout; return its Python."""
    session.run("uv", "venv", "--quiet", "--python", f"{session.bin}/python", str(directory))
    python = str(directory / "bin/python")
    session.run("uv", "pip", "install", "--quiet", "--python", python, *requirements, env=TESTED)
    return python


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests (about four minutes)."""
    install(session)
    session.run("pytest", "-n", "logical", *session.posargs)


@nox.session
def newest(session: nox.Session) -> None:
    """Run the tests with the newest version of every dependency, without constraints.txt."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[dev]")
    session.run("pytest", "-n", "logical", *session.posargs)


@nox.session
def constraints(session: nox.Session) -> None:
    """Write constraints.txt: the newest version of every direct and indirect dependency."""
    install(session, "uv")
    groups = [f"--group={name}" for name in nox.project.load_toml("pyproject.toml")["dependency-groups"]]
    sources = ("pyproject.toml", "--all-extras", *groups, "--universal", "--python-version", "3.11")
    plain = ("--quiet", "--no-header", "--no-annotate")
    session.run("uv", "pip", "compile", "--upgrade", *sources, *plain, "--output-file", "constraints.txt")


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff, and zizmor for the workflows and the action."""
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("zizmor", "--offline", "--strict-collection", "--quiet", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy and pyright, both strict, on what ships."""
    install(session)
    session.run("mypy")
    session.run("pyright")


@nox.session
def generate(session: nox.Session) -> None:
    """Write models, structs and the rule table from openapi.yaml, and the sync client from the async one."""
    install(session)
    session.run("python", "spec/generate.py", *session.posargs)


@nox.session
def contract_lint(session: nox.Session) -> None:
    """Check openapi.yaml with openapi-spec-validator, Redocly and Spectral (needs npx)."""
    install(session)
    session.run("openapi-spec-validator", "openapi.yaml")
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    session.run("npx", "--yes", REDOCLY, "lint", "openapi.yaml", external=True, env=quiet)
    session.run("npx", "--yes", SPECTRAL, "lint", "--fail-severity", "warn", "openapi.yaml", external=True)


@nox.session
def contract(session: nox.Session) -> None:
    """Run the contract suite against the reference server, as a backend team would."""
    install(session)
    session.run("video-calls-contract", "run", "--reference", "--level", "should", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site in docs/_build; a warning or a broken reference fails (a minute)."""
    install(session, "-e", ".[docs]")
    built = "docs/_build"
    session.run("sphinx-build", "-E", "-W", "--keep-going", "-n", "-q", "-b", "html", "docs", built)
    session.log(f"{Path(built).resolve()}/index.html")


@nox.session
def browser(session: nox.Session) -> None:
    """Test the pages in headless Chromium (needs /usr/bin/chromium)."""
    install(session)
    session.run("pytest", "-m", "browser", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example and the code of the pages (JavaScript if Node.js is installed)."""
    install(session)
    tests = [f"tests/test_{name}.py" for name in ("examples", "pages")]
    session.run("pytest", "-v", "-m", "long or not long", *tests, *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Run Schemathesis against the server and the control API (about ten minutes)."""
    install(session)
    tests = [f"mock_server/tests/test_{name}.py" for name in ("fuzz", "control")]
    session.run("pytest", "-m", "long", *tests, *session.posargs)


@nox.session
def violations(session: nox.Session) -> None:
    """Run the contract suite against backends with one violation each (ten minutes)."""
    install(session)
    report = str(Path(session.create_tmp()).resolve() / "violations.xml")
    tests = "contract_tests/tests/test_violations.py"
    selected = ("-n", "logical", "-m", "long or not long", "-o", "junit_family=xunit1")
    try:
        session.run("pytest", *selected, f"--junit-xml={report}", tests, *session.posargs)
    finally:
        session.run("python", tests, report)


@nox.session
def freedoms(session: nox.Session) -> None:
    """Run the contract suite against conforming backends of other kinds (ten minutes)."""
    install(session)
    names = ("freedoms", "staging", "independent")
    tests = [f"contract_tests/tests/test_{name}.py" for name in names]
    session.run("pytest", "-n", "logical", "-m", "long", *tests, *session.posargs)


@nox.session
def workers(session: nox.Session) -> None:
    """Test several workers on PostgreSQL: start, stop, crash and restart (a minute)."""
    install(session)
    session.run("pytest", "-m", "long", "mock_server/tests/test_workers.py", *session.posargs)


@nox.session
def load(session: nox.Session) -> None:
    """Test two processes on each database under load: races, kill -9, restarts, damage (half an hour)."""
    install(session)
    tests = [f"mock_server/tests/test_{name}.py" for name in ("races", "under_load", "disk")]
    session.run("pytest", "-m", "long", "-rP", *tests, *session.posargs)


@nox.session
def stores(session: nox.Session) -> None:
    """Run the contract suite on each database, with two workers, and behind nginx (five minutes)."""
    install(session)
    session.run("pytest", "-m", "long", "-rP", "mock_server/tests/test_stores.py", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Test the SDK with a network fault in every fifth exchange, a thousand of each operation (minutes)."""
    install(session)
    session.run("pytest", "-m", "long", "-rP", "sdk/tests/test_faults.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks (some minutes; `--quick` takes one)."""
    install(session)
    session.run("python", "benchmarks", *session.posargs)


@nox.session
def clients(session: nox.Session) -> None:
    """Test clients that openapi-typescript and openapi-python-client generate (needs npm)."""
    install(session, "-e", ".[server,contract]", *group("clients"))
    session.run("python", "tests/clients/run.py")


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel, check their contents, and test each extra (four minutes)."""
    install(session, *group("package"))
    with tempfile.TemporaryDirectory(prefix="video-calls-") as away:
        out = Path(away)
        session.run(
            "python", "-m", "build", "--outdir", away, ".", env=TESTED
        )  # builds the wheel from the sdist
        [sdist], [wheel] = out.glob("*.tar.gz"), out.glob("*.whl")
        session.run("twine", "check", "--strict", str(sdist), str(wheel))
        session.run("check-wheel-contents", "--config", "pyproject.toml", str(wheel))
        session.run("python", "tests/check_archives.py", str(sdist), str(wheel))
        installation = str(Path("tests/check_installation.py").resolve())
        for archive, extras in [*((wheel, extras) for extras in EXTRAS), (sdist, []), (sdist, ["server"])]:
            directory = out / f"{archive.suffix[1:]}-with-{'-'.join(extras) or 'nothing'}"
            python = environment(session, directory, f"video-calls[{','.join(extras)}] @ {archive.as_uri()}")
            session.run(python, "-I", installation, *extras, external=True)
        requirements = (f"video-calls[testing,contract] @ {wheel.as_uri()}", "django")
        python = environment(session, out / "beside-django", *requirements)
        session.run(python, str(Path("tests/check_beside_django.py").resolve()), external=True)
        session.run("python", "-m", "tarfile", "--extract", str(sdist), away)
        with session.chdir(out / sdist.name.removesuffix(".tar.gz")):
            python = environment(session, out / "sources", "--editable", ".[dev]")
            tests = ("spec/tests/test_contract.py", "sdk/tests/test_surface.py")
            session.run(python, "-m", "pytest", "-q", *tests, external=True)


@nox.session
@nox.parametrize(
    ("python", "choice"),
    [
        ("3.11", ("--resolution", "lowest-direct")),
        *((python, ("--constraints", "constraints.txt")) for python in ("3.11", "3.12", "3.13")),
    ],
    ids=["lowest", "3.11", "3.12", "3.13"],
)
def versions(session: nox.Session, python: str, choice: tuple[str, ...]) -> None:
    """Test the lowest versions of dependencies, and each Python with constraints.txt (minutes each)."""
    install(session, "uv")
    with tempfile.TemporaryDirectory(prefix="video-calls-") as away:
        session.run("uv", "venv", "--quiet", "--python", python, away)
        requirements = (*choice, "--editable", ".[dev]")
        session.run("uv", "pip", "install", "--quiet", "--python", f"{away}/bin/python", *requirements)
        command = (f"{away}/bin/python", "-m", "pytest", "-q", "-n", "logical")
        session.run(*command, *(session.posargs or QUICK), external=True)
