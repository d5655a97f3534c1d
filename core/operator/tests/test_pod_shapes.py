"""The label sets that pods have, after whatever changes, are those of the pods that there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from axoneme.core.endpoints.labels import PodLabeller
from axoneme.core.endpoints.pods import Namespace, Pod
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.operator.pod_shapes import Key, Shape, ShapeDecoder, ShapedPod, WantedLabels
from axoneme.core.state import Changes

SPACES = st.sampled_from(["x", "y"])
TEXTS = st.sampled_from(["1", "2"])
STEPS = st.one_of(
    st.tuples(st.just("pod"), SPACES, st.sampled_from("abc"), TEXTS),
    st.tuples(st.just("gone"), SPACES, st.sampled_from("abc"), st.just("")),
    st.tuples(st.just("namespace"), SPACES, st.just(""), TEXTS),
)


@given(st.lists(STEPS, max_size=20))
def test_wanted_label_sets_are_those_of_pods_whose_namespace_is_known(
    steps: list[tuple[str, str, str, str]],
) -> None:
    """And every change of what is wanted is told."""
    labeller = PodLabeller("c", LabelFilter.from_option())
    wanted = WantedLabels(labeller)
    pods: dict[Key, str] = {}
    spaces: dict[str, Namespace] = {}
    seen: set[LabelSet] = set()
    for what, space, name, text in steps:
        key = (space, name)
        if what == "namespace":
            spaces[space] = Namespace(space, (("team", text),))
            touched = wanted.namespaces_changed(Changes(upserted={space: spaces[space]}))
        elif what == "pod":
            pods[key] = text
            row = ShapedPod(key, Shape(space, (("app", text),), (), ""))
            touched = wanted.pods_changed(Changes(upserted={key: row}))
        else:
            row = ShapedPod(key, Shape(space, (), (), ""))
            pods.pop(key, None)
            touched = wanted.pods_changed(Changes(deleted={key: row}))
        expected = {
            labeller(Pod(space, "", "", "", labels=(("app", app),)), spaces[space])
            for (space, _), app in pods.items()
            if space in spaces
        }
        assert len(wanted) == len(expected) and all(one in wanted for one in expected)
        assert expected ^ seen <= touched
        seen = expected


def read(phase: str = "Running", **spec: object) -> ShapedPod | None:
    """A pod of another node, decoded."""
    obj = ClusterObject(
        ObjectKey("Pod", "x", "a"),
        "v1",
        labels={"app": "web", "hash": "1"},
        body={
            "spec": {"nodeName": "n9", "serviceAccountName": "shop", **spec},
            "status": {"phase": phase},
        },
    )
    return ShapeDecoder(lambda key: key != "hash", annotations=False)(obj)


def test_only_pods_with_a_network_of_their_own_that_run_or_will_run() -> None:
    """And only labels that make identities."""
    row = read()
    assert row is not None and row.shape == Shape("x", (("app", "web"),), (), "shop")
    assert read("Pending") == row
    assert read("Succeeded") is None and read("Failed") is None
    assert read(hostNetwork=True) is None
