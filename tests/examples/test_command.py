"""What does the command end with? 0 only if nothing of ours went wrong in any act that was played."""

from __future__ import annotations

import sys

import pytest

from examples.payment_flow import __main__ as command


@pytest.mark.parametrize(
    ("words", "acts", "code", "played"),
    [
        ([], (True, True), 0, ["contest 500", "crash 100"]),
        ([], (False, True), 1, ["contest 500", "crash 100"]),
        ([], (True, False), 1, ["contest 500", "crash 100"]),
        (["--quick"], (True, True), 0, ["contest 250", "crash 60"]),
        (["--act", "1"], (True, False), 0, ["contest 500"]),
        (["--act", "2", "--orders", "40"], (False, True), 0, ["crash 40"]),
    ],
    ids=["well", "first wrong", "second wrong", "quick", "first only", "second only"],
)
def test_the_command_ends_well_only_if_every_act_did(
    words: list[str], acts: tuple[bool, bool], code: int, played: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def contest(screen: object, seed: int, count: int) -> bool:
        seen.append(f"contest {count}")
        return acts[0]

    def crash(screen: object, seed: int, count: int, db: str | None) -> bool:
        seen.append(f"crash {count}")
        return acts[1]

    monkeypatch.setattr(command, "contest", contest)
    monkeypatch.setattr(command, "crash", crash)
    monkeypatch.setattr(sys, "argv", ["payment_flow", *words])
    assert (command.main(), seen) == (code, played)
