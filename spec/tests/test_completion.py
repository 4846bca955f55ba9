"""Completion of the commands by the shell, set up as docs/server.md says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import video_calls_contract.__main__
import video_calls_server.__main__
from click.testing import CliRunner

SERVER_PAGE = (Path(__file__).resolve().parents[2] / "docs/server.md").read_text(encoding="utf-8")
COMMANDS: dict[str, click.Command] = {
    "video-calls-server": video_calls_server.__main__.main,
    "video-calls-contract": video_calls_contract.__main__.main,
}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("video-calls-server serve --jwt-algorithm ", ["HS256", "RS256", "ES256"]),
        ("video-calls-contract run --rule join.not-c", ["join.not-cancelled", "join.not-completed"]),
    ],
)
def test_bash_completes_as_the_readme_sets_it_up(typed: str, offered: list[str]) -> None:
    words = shlex.split(typed) + [""] * typed.endswith(" ")
    [set_up] = re.findall(r"```bash\n(eval .*?)```", SERVER_PAGE, re.DOTALL)
    line = next(line for line in set_up.splitlines() if line.endswith(f' {words[0]})"'))
    script = f"""
        {line}
        COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
        _{words[0].replace("-", "_")}_completion {words[0]}
        echo "${{COMPREPLY[@]}}"
    """
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = ["bash", "--norc", "-uc", script]
    answer = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True)
    assert (answer.stdout.split(), answer.stderr) == (offered, "")


def asked(command: str, what: str, **words: str) -> str:
    """What the command tells a shell, in this process."""
    environment = {f"_{command.replace('-', '_').upper()}_COMPLETE": what, **words}
    return CliRunner().invoke(COMMANDS[command], prog_name=command, env=environment).stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("video-calls-server se", "serve"),
        ("video-calls-server serve --jwt-alg", "--jwt-algorithm"),
        ("video-calls-contract ini", "init"),
        ("video-calls-contract run --section pr", "privacy"),
    ],
)
def test_commands_options_and_values_are_offered(typed: str, offered: str) -> None:
    words = typed.split()
    answer = asked(words[0], "bash_complete", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1))
    assert answer == f"plain,{offered}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_there_are_scripts_for_zsh_and_fish(command: str) -> None:
    assert asked(command, "zsh_source").startswith(f"#compdef {command}\n")
    assert asked(command, "fish_source").startswith(f"function _{command.replace('-', '_')}_completion;")
