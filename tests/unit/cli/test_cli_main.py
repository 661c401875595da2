# SPDX-License-Identifier: Apache-2.0
"""The entry point: which modules a command loads, and what is said where there is no such command."""

import argparse
import json

import pytest

from vmwarden.cli.main import COMMANDS, EXIT_USAGE, main, parser


def commands(top: argparse.ArgumentParser) -> list[str]:
    return [
        name
        for action in top._actions
        if isinstance(action, argparse._SubParsersAction)
        for name in action.choices
    ]


def test_the_table_of_modules_is_what_they_add() -> None:
    assert commands(parser()) == [name for adds in COMMANDS.values() for name in adds]


@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_loads_its_own_module_alone(module: str) -> None:
    for command in COMMANDS[module]:
        assert commands(parser(command)) == list(COMMANDS[module])


@pytest.mark.parametrize("command", COMMANDS["daemon"])
def test_alone_or_among_all_it_is_told_in_the_same_words(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for top in (parser(), parser(command)):
        with pytest.raises(SystemExit):
            top.parse_args([command, "--help"])
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


@pytest.mark.parametrize("argv", [["nonsense"], ["run", "--nonsense"], ["--nonsense", "run"], ["Run"]])
def test_what_is_no_command_is_a_mistake_of_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, "--json"]) == EXIT_USAGE
    assert "usage: vmwarden" in json.loads(capsys.readouterr().out)["errors"][0]["message"]


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EXIT_USAGE
    told = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {name for adds in COMMANDS.values() for name in adds} <= told
