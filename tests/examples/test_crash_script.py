"""Who comes, and who is killed when? Told by the seed; and the killer keeps to it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from examples.payment_flow.crash.customers import crowd
from examples.payment_flow.crash.kills import SCENES, Kill, Killer, When, scenes

EXAMPLES = Path(__file__).parents[2] / "examples"
SEEDS = range(50)


def test_the_seed_alone_tells_the_customers_and_the_kills() -> None:
    assert (crowd(3, 100), scenes(3, 100)) == (crowd(3, 100), scenes(3, 100))
    assert crowd(3, 100) != crowd(4, 100)
    assert scenes(3, 100) != scenes(4, 100)


@pytest.mark.parametrize("count", [40, 120, 5000])
def test_every_kill_comes_in_the_middle_of_the_work_and_after_the_one_before(count: int) -> None:
    for seed in SEEDS:
        at = [kill.at for kill in scenes(seed, count)]
        assert at == sorted(at)
        assert 0 < at[0] <= at[-1] < count * 0.8


def test_payments_and_relays_die_several_times_and_at_each_kind_of_moment() -> None:
    assert {when for _, when, _ in SCENES} == set(When)
    assert sum(victim == "payments" for victim, _, _ in SCENES) >= 3
    assert sum(victim.startswith("relay") for victim, _, _ in SCENES) >= 2


def test_no_two_customers_share_a_key_and_some_are_fickle_and_some_doubtful() -> None:
    customers = crowd(3, 100)
    assert len({customer.order.reference for customer in customers}) == 100
    assert 0 < sum(customer.fickle for customer in customers) < 100
    assert 0 < sum(customer.doubtful for customer in customers) < 100


def killed_by(plan: list[Kill], progress: int) -> list[str]:
    """Whom a killer kills while the work stands as it does, until there is no more to kill."""
    killed: list[str] = []
    killer = Killer(plan, dict.fromkeys(When, lambda: progress), killed.append)
    killer._over.set()  # so that it looks once at each
    with killer:
        pass
    assert [kill.victim for kill in killer.done] == killed
    return killed


def test_nobody_is_killed_before_the_work_has_come_so_far() -> None:
    plan = [Kill("payments", When.TAKEN, 5), Kill("relay 1", When.POSTED, 9)]
    assert [killed_by(plan, progress) for progress in (4, 5, 9)] == [[], ["payments"], ["payments", "relay 1"]]


def test_what_goes_wrong_while_killing_is_not_kept_quiet() -> None:
    def fail(victim: str) -> None:
        raise ProcessLookupError(victim)

    with pytest.raises(ProcessLookupError), Killer([Kill("payments", When.TAKEN, 0)], dict.fromkeys(When, lambda: 1), fail):
        pass


def test_the_example_imports_nothing_that_a_user_may_not() -> None:
    for path in EXAMPLES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "finresilience":
                parts = [*node.module.split("."), *(alias.name for alias in node.names)]
                assert not any(part.startswith("_") for part in parts), (path, parts)
                assert parts[1] not in {"cores", "policies"}, (path, parts)
