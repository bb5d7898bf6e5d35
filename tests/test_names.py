"""The names at the top of the package: what a stranger finds there, sees of it, and is told when it is misused."""

import pytest

import cadvlm
from cadvlm.synth.histories import part


@pytest.fixture(scope="module")
def bracket():
    "A sequence, its solid, and three views of it."
    sequence = part(seed=0, index=987)
    solid = cadvlm.build(sequence)
    return sequence, solid, {view: cadvlm.project(solid, view) for view in ("front", "top", "right")}


def test_every_name_is_listed_and_described():
    assert {*dir(cadvlm)} == {*cadvlm.__all__, "__version__"}
    for name in cadvlm.__all__:
        assert f"`{name}`" in cadvlm.__doc__ and getattr(cadvlm, name).__doc__, name


def test_what_is_shown_of_a_value_is_one_line(bracket):
    sequence, solid, views = bracket
    values = [sequence, solid, views["front"], cadvlm.match(sequence, views), cadvlm.reconstruct(views)]
    shown = [repr(value) for value in values]
    assert all(text.startswith("<") and len(text) < 100 and "\n" not in text for text in shown), shown
    assert all(value._repr_png_().startswith(b"\x89PNG") for value in (solid, views["front"]))


def test_part_is_read_drawn_written_and_compared_in_a_line_each(bracket):
    sequence, solid, views = bracket
    again = cadvlm.build(cadvlm.decode(cadvlm.encode(sequence)))
    assert cadvlm.iou(again, solid, align="frame") > 0.9
    assert cadvlm.match(cadvlm.reconstruct(views).sequence, views).certified


@pytest.mark.parametrize("name, wrong", [("build", "file"), ("encode", "solid"), ("project", "sequence"),
                                         ("iou", "sequence")])
def test_value_of_another_kind_is_rejected_with_the_remedy(name, wrong, bracket):
    value = dict(file="part.json", sequence=bracket[0], solid=bracket[1])[wrong]
    more = dict(project=["front"], iou=[bracket[1]]).get(name, [])
    with pytest.raises(TypeError, match=rf"is needed here, not a {type(value).__name__}; cadvlm\.\w+\("):
        getattr(cadvlm, name)(value, *more)
