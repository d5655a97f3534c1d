"""The label sets that pods have, after whatever changes, are those of the pods that there are."""

from __future__ import annotations

import gc

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


def test_a_label_set_that_cannot_be_worked_out_takes_no_other_pod_along() -> None:
    """A plugin fails for one pod: the others of the batch have theirs, and it is tried again."""
    plain = PodLabeller("c", LabelFilter.from_option())
    broken = {"bad"}

    def labels_of(pod: Pod, namespace: Namespace) -> LabelSet:
        if dict(pod.labels)["app"] in broken:
            raise ValueError("a plugin's fault")
        return plain(pod, namespace)

    wanted = WantedLabels(labels_of)
    wanted.namespaces_changed(Changes(upserted={"x": Namespace("x")}))
    rows = [ShapedPod(("x", app), Shape("x", (("app", app),), (), "")) for app in ("bad", "good")]
    touched = wanted.pods_changed(Changes(upserted={row.key: row for row in rows}))
    good = plain(Pod("x", "", "", "", labels=(("app", "good"),)), Namespace("x"))
    assert touched == {good} and good in wanted
    broken.clear()
    touched = wanted.namespaces_changed(Changes(upserted={"x": Namespace("x", (("team", "1"),))}))
    assert len(wanted) == 2 and good in touched
    wanted.pods_changed(Changes(deleted={row.key: row for row in rows}))
    assert len(wanted) == 0


def test_what_no_pod_has_any_more_is_forgotten() -> None:
    """Jobs have labels of their own, each of them: their shapes must not add up."""
    decoder = ShapeDecoder(lambda key: True, annotations=False)
    kept = [
        decoder(ClusterObject(ObjectKey("Pod", "x", f"p{n}"), "v1", labels={"job": str(n // 2)}))
        for n in range(6)
    ]
    assert kept[0] is not None and kept[1] is not None and kept[0].shape is kept[1].shape
    assert len(decoder) == 3
    del kept[:4]
    gc.collect()
    assert len(decoder) == 1


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
