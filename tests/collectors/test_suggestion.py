from collectors.suggestion import nearest


def test_the_most_similar_name_is_suggested_and_none_rather_than_a_wild_guess():
    assert nearest("seriall", {"serial", "simulated", "mqtt"}) == "serial"
    assert nearest("teapot", {"serial", "simulated", "mqtt"}) is None
    assert nearest("", []) is None
