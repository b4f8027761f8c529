from pathlib import Path

from agent.identity import default_device_id, machine_fingerprint


def machine(root: Path, *, machine_id: str = "a" * 32, serial: str = "", address: str = "") -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc/machine-id").write_text(machine_id + "\n")
    if serial:
        (root / "sys/firmware/devicetree/base").mkdir(parents=True)
        (root / "sys/firmware/devicetree/base/serial-number").write_text(serial + "\0")
    if address:
        adapter = root / "sys/class/net/eth0"
        (adapter / "device").mkdir(parents=True)
        (adapter / "addr_assign_type").write_text("0\n")
        (adapter / "address").write_text(address + "\n")
    return root


def test_a_machine_keeps_its_identity(tmp_path):
    root = machine(tmp_path, serial="10000000abcdef")
    assert default_device_id(root) == default_device_id(root)
    assert machine_fingerprint(root) == machine_fingerprint(root)


def test_a_cloned_card_in_another_pi_is_another_machine(tmp_path):
    first = machine(tmp_path / "first", serial="10000000abcdef")
    clone = machine(tmp_path / "clone", serial="10000000123456")
    assert default_device_id(first) != default_device_id(clone)
    assert machine_fingerprint(first) != machine_fingerprint(clone)


def test_a_cloned_disk_in_another_computer_is_another_machine(tmp_path):
    first = machine(tmp_path / "first", address="02:00:00:00:00:01")
    clone = machine(tmp_path / "clone", address="02:00:00:00:00:02")
    assert machine_fingerprint(first) != machine_fingerprint(clone)


def test_a_random_network_address_says_nothing(tmp_path):
    root = machine(tmp_path, address="02:00:00:00:00:01")
    before = machine_fingerprint(root)
    adapter = root / "sys/class/net/wlan0"
    (adapter / "device").mkdir(parents=True)
    (adapter / "addr_assign_type").write_text("3\n")
    (adapter / "address").write_text("02:ff:ff:ff:ff:ff\n")
    assert machine_fingerprint(root) == before


def test_the_machine_id_is_not_given_away(tmp_path):
    root = machine(tmp_path, machine_id="0123456789abcdef" * 2)
    assert "0123456789ab" not in default_device_id(root) + machine_fingerprint(root)


def test_a_machine_without_any_identity_still_has_a_name(tmp_path):
    assert default_device_id(tmp_path).startswith("outstation-")
    assert len(machine_fingerprint(tmp_path)) == 32
