from envs.alfworld.generator.layouts import SCENES, Layout, LayoutReceptacle, load_layout
from envs.alfworld.generator.layouts import _receptacle as read_receptacle


def test_a_receptacle_is_read_from_its_name_and_pose() -> None:
    assert read_receptacle("Fridge|-00.50|+01.00|+02.25", [0.25, -1.5, 270.0, 30.0]) == (
        LayoutReceptacle(
            id="Fridge_bar__minus_00_dot_50_bar__plus_01_dot_00_bar__plus_02_dot_25",
            type="Fridge",
            location="loc_bar_1_bar__minus_6_bar_3_bar_30",
            position=(-0.5, 1.0, 2.25),
            openable=True,
        )
    )


def test_of_the_parts_of_furniture_basins_alone_count() -> None:
    pose = [0.0, 0.0, 0.0, 0.0]
    basin = read_receptacle("Sink|+01.00|+01.00|+01.00|SinkBasin", pose)
    assert basin is not None
    assert (basin.type, basin.openable) == ("SinkBasin", False)
    assert read_receptacle("Bathtub|+01.00|+01.00|+01.00|SinkBasin", pose) is None
    assert read_receptacle("Painting|+01.00|+01.00|+01.00", pose) is None


def test_every_floor_plan_is_read_in_a_stable_order() -> None:
    assert len(SCENES) == 120
    for scene in SCENES:
        layout = load_layout(scene)
        ids = [receptacle.id for receptacle in layout.receptacles]
        assert len(ids) >= 3
        assert len(set(ids)) == len(ids)
        assert list(layout.object_types) == sorted(set(layout.object_types))


def test_a_floor_plan_keeps_the_chosen_types_and_all_if_none_are_chosen() -> None:
    kitchen = load_layout(3)
    assert kitchen.keep((), ()) == kitchen
    kept: Layout = kitchen.keep(("Mug", "Apple"), ("Fridge",))
    assert kept.object_types == ("Apple", "Mug")
    assert {receptacle.type for receptacle in kept.receptacles} == {"Fridge"}
