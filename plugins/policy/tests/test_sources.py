"""Objects that go bad: what stays in force, also across a restart; the condition ``Valid``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.plugins.policy.decode.kinds import decode_object
from axoneme.plugins.policy.lastgood import LastGood
from axoneme.plugins.policy.sources import PolicySources
from axoneme.plugins.policy.tables import InForce
from axoneme.plugins.policy.tests.world import as_object
from axoneme.plugins.policy.validator import PolicyValidator


def policy(*items: dict[str, Any], status: Any = None, **spec: Any) -> Any:
    body = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "red"},
        "spec": {"endpointSelector": {}, "ingress": list(items), **spec},
    }
    return as_object({**body, **({"status": status} if status else {})})


GOOD = policy({"fromEndpoints": [{}]})
WRONG = policy({"toPorts": [{"ports": [{"port": "70000"}]}]})
AHEAD = policy({"toPorts": [{"ports": [{"port": "80"}], "rules": {"http": [{}]}}]})


@pytest.fixture
def sources(tmp_path: Path) -> PolicySources:
    return made(tmp_path)


MADE: list[LastGood] = []


def made(folder: Path) -> PolicySources:
    """An agent's; those before it have ended, or written what they had to."""
    for earlier in MADE:
        earlier.saved()
    MADE.append(LastGood(folder / "policies"))
    return PolicySources(lambda obj: decode_object(obj) or [], MADE[-1])


@pytest.fixture(autouse=True)
def _forget_agents() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().saved()


@pytest.mark.parametrize("bad", [WRONG, AHEAD])
def test_the_last_good_rules_stay(sources: PolicySources, bad: Any) -> None:
    """An edit that is refused changes nothing but the row, which names the field."""
    good = sources.put(GOOD)
    assert (good.row.valid, good.row.in_force) == (True, InForce.CURRENT)
    refused = sources.put(bad)
    assert refused.rules == good.rules
    assert (refused.row.valid, refused.row.in_force) == (False, InForce.LAST_GOOD)
    assert "spec.ingress[0].toPorts[0]" in refused.row.message
    assert sources.refuse(GOOD.key, "not YAML").rules == good.rules
    assert sources.put(GOOD).row.valid


@pytest.mark.parametrize("bad", [WRONG, AHEAD])
def test_a_restart_does_not_forget_them(tmp_path: Path, bad: Any) -> None:
    """A new agent that meets the bad version first still finds the good one."""
    good = made(tmp_path).put(GOOD)
    again = made(tmp_path).put(bad)
    assert again.rules == good.rules
    assert again.row.in_force == InForce.LAST_GOOD


def test_never_good_and_wrong_has_no_rules(sources: PolicySources) -> None:
    """As if admission had refused it: the state of before stays."""
    outcome = sources.put(WRONG)
    assert (list(outcome.rules or ()), outcome.row.in_force) == ([], InForce.NONE)


def test_never_good_and_unenforceable_locks(sources: PolicySources) -> None:
    """Its subjects are default-deny where it has rules, with no allow: never a silent allow."""
    outcome = sources.put(AHEAD)
    assert outcome.row.in_force == InForce.LOCKED
    [rule] = outcome.rules or ()
    assert (rule.selectors, rule.default_deny, rule.direction.value) == ((), True, "ingress")


DB = {"matchLabels": {"app": "db"}}
GROUP = {"toGroups": [{"aws": {"region": "x"}}]}


def test_a_tightening_ahead_of_us_locks_what_is_new(tmp_path: Path) -> None:
    """The last good rules stay, and what they were not about gets default deny; also later."""
    sources = made(tmp_path)
    good = sources.put(GOOD)
    ahead = policy(endpointSelector=DB, ingress=[], egress=[GROUP])
    for kept in (sources.put(ahead), sources.put(ahead), made(tmp_path).put(ahead)):
        assert kept.row.in_force == InForce.LAST_GOOD
        first, lock = kept.rules or ()
        assert [first] == list(good.rules or ())
        assert (lock.selectors, lock.default_deny, lock.direction.value) == ((), True, "egress")
        assert "db" in str(lock.subject) and "db" not in str(first.subject)
    assert sources.put(WRONG).rules == sources.put(ahead).rules  # nor does a mistake open it
    loose = policy({"fromEndpoints": [{}]}, enableDefaultDeny={"ingress": False})
    assert len(sources.put(loose).rules or ()) == 1
    assert [r.default_deny for r in sources.put(AHEAD).rules or ()] == [False, True]


def test_a_stated_default_deny_locks(sources: PolicySources) -> None:
    """A direction without rules that asks for default deny gets it."""
    body = policy(ingress=[], egress=[GROUP], enableDefaultDeny={"ingress": True})
    outcome = sources.put(body)
    assert {r.direction.value for r in outcome.rules or ()} == {"ingress", "egress"}
    assert outcome.row.in_force == InForce.LOCKED
    wrong = sources.put(WRONG)
    assert (wrong.rules, wrong.row.in_force) == (outcome.rules, InForce.LOCKED)


def test_a_deny_of_a_group_locks(sources: PolicySources) -> None:
    """Nothing knows who that is: such a deny would be called current and deny nothing."""
    outcome = sources.put(policy(ingress=[], egressDeny=[GROUP]))
    assert (outcome.row.valid, outcome.row.in_force) == (False, InForce.LOCKED)


def test_a_decoder_that_breaks_is_one_bad_object(tmp_path: Path) -> None:
    """An error nobody thought of refuses that object and is not raised (CVE-2023-41332)."""

    def decode(obj: Any) -> Any:
        raise RuntimeError("surprise")

    outcome = PolicySources(decode, LastGood(tmp_path)).put(GOOD)
    assert not outcome.row.valid and "surprise" in outcome.row.message


def test_a_burst_ends_with_the_last_version(tmp_path: Path) -> None:
    """Versions that come while the disk is slow: what is read back is the newest, or nothing."""
    sources = made(tmp_path)
    for port in range(1, 50):
        sources.put(policy({"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": str(port)}]}]}))
    last = sources.put(GOOD)
    assert made(tmp_path).put(WRONG).rules == last.rules
    for _ in range(20):
        sources.put(GOOD)
        sources.remove(GOOD.key)
    assert made(tmp_path).put(WRONG).row.in_force == InForce.NONE


def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    """The rules stay in force; the next event of the object tries to save it again."""
    (tmp_path / "policies").write_text("a file where the folder should be")
    sources = made(tmp_path)
    assert sources.put(GOOD).row.valid
    MADE[0].saved()
    assert not sources.unchanged(GOOD)
    (tmp_path / "policies").unlink()
    sources.put(GOOD)
    assert made(tmp_path).put(WRONG).row.in_force == InForce.LAST_GOOD


def test_a_status_alone_is_no_change(tmp_path: Path) -> None:
    """Nor is anything else that rules are not made of."""
    sources = made(tmp_path)
    assert not sources.unchanged(GOOD)
    sources.put(GOOD)
    item = GOOD.spec["ingress"][0]
    assert sources.unchanged(policy(item, status={"conditions": []}))
    assert not sources.unchanged(policy(item, item))
    sources.put(WRONG)
    assert not sources.unchanged(GOOD)


def test_deleted_objects_leave_no_file(tmp_path: Path) -> None:
    """Also those that were deleted while the agent was away."""
    first = made(tmp_path)
    first.put(GOOD)
    MADE[0].saved()
    assert len(list((tmp_path / "policies").iterdir())) == 1
    second = made(tmp_path)
    second.synced()
    MADE[1].saved()
    assert list((tmp_path / "policies").iterdir()) == []
    first.put(GOOD)
    first.remove(GOOD.key)
    assert made(tmp_path).put(WRONG).row.in_force == InForce.NONE


def test_a_damaged_file_is_no_last_good(tmp_path: Path) -> None:
    """Half a file is reported and ignored."""
    made(tmp_path).put(GOOD)
    MADE[0].saved()
    [file] = (tmp_path / "policies").iterdir()
    file.write_text(file.read_text()[:20])
    assert made(tmp_path).put(WRONG).row.in_force == InForce.NONE


def condition(obj: Any) -> Any:
    validator = PolicyValidator(None, lambda o: decode_object(o) or [])  # type: ignore[arg-type]
    return validator.status(obj)


def test_the_condition_says_what_is_wrong() -> None:
    """Type ``Valid``, with the path of the field; other conditions stay."""
    other = {"type": "Other", "status": "True"}
    status = condition(policy(*WRONG.spec["ingress"], status={"conditions": [other], "x": 1}))
    assert status["x"] == 1
    kept, new = status["conditions"]
    assert kept == other
    assert (new["type"], new["status"], new["reason"]) == ("Valid", "False", "Invalid")
    assert "spec.ingress[0].toPorts[0].ports[0].port" in new["message"]
    assert condition(AHEAD)["conditions"][0]["reason"] == "Unenforceable"
    assert condition(GOOD)["conditions"][0]["status"] == "True"


def test_a_condition_that_is_right_is_not_written_again() -> None:
    """The write of the condition does not come back as work for ever."""
    for obj in (GOOD, WRONG):
        status = condition(obj)
        assert condition(policy(*obj.spec["ingress"], status=status)) is None


def test_a_valid_network_policy_gets_no_status() -> None:
    """Kubernetes gives NetworkPolicy no status: only what is wrong is said."""
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "red"},
        "spec": {"podSelector": {}},
    }
    assert condition(as_object(body)) is None
    with pytest.raises(InvalidObjectError):
        decode_object(as_object({**body, "spec": {"podSelector": {}, "ingres": []}}))
