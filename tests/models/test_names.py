from dinotools.models.names import did_you_mean


def test_the_nearest_names_are_offered():
    assert did_you_mean("resnet5", ["vit_small", "resnet50", "resnet152"]) == "Did you mean resnet50 or resnet152?"


def test_a_name_near_nothing_is_answered_with_a_list():
    assert did_you_mean("qqq", ["vit_small", "resnet50"]) == "Known are vit_small, resnet50."
