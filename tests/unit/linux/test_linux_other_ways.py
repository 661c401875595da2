# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from vmwarden.errors import ControlFailed
from vmwarden.linux.other_ways import other_ways


def write(file: Path, word: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(word + "\n")


def bind(device: Path, driver: str) -> None:
    (device / "driver").symlink_to(Path("../../../drivers") / driver)


def virtio(system: Path, name: str, number: str, *, network: str = "", driver: str = "virtio_net") -> None:
    device = system / "bus/virtio/devices" / name
    write(device / "device", number)
    if driver:
        bind(device, driver)
    if network:
        (device / "net" / network).mkdir(parents=True)


def pci(
    system: Path, name: str, kind: str, *, driver: str = "", network: str = "", of: str = "0x8086"
) -> None:
    device = system / "bus/pci/devices" / name
    write(device / "class", kind)
    write(device / "vendor", of)
    write(device / "device", "0x1110")
    if driver:
        bind(device, driver)
    if network:
        (device / "net" / network).mkdir(parents=True)


def machine(root: Path) -> Path:
    """/sys of a VM that has nothing but a disk and two network cards."""
    (root / "class/net/eth0").mkdir(parents=True)
    virtio(root, "virtio0", "0x0002", driver="virtio_blk")
    virtio(root, "virtio1", "0x0001", network="eth0")
    pci(root, "0000:00:01.0", "0x020000", driver="virtio-pci")
    pci(root, "0000:00:02.0", "0x020000", driver="ice", network="eth1")
    return root


def found(root: Path) -> tuple[str, ...]:
    return other_ways(root, lambda: False)


def test_a_plain_vm_has_none(tmp_path: Path) -> None:
    assert found(machine(tmp_path)) == ()


def test_devices_that_carry_data_and_are_no_network_devices(tmp_path: Path) -> None:
    root = machine(tmp_path)
    for name, number in (
        ("virtio2", "0x0003"),
        ("virtio3", "0x0009"),
        ("virtio4", "0x0013"),
        ("virtio5", "0x001a"),
    ):
        virtio(root, name, number)
    pci(root, "0000:00:03.0", "0x050000", of="0x1af4")
    (root / "class/infiniband/mlx5_0").mkdir(parents=True)
    write(root / "class/tty/ttyS0/type", "4")
    write(root / "class/tty/ttyS1/type", "0")
    write(root / "class/tty/tty0/type", "4")
    assert found(root) == (
        "virtio console virtio2",
        "9p virtio3",
        "vsock virtio4",
        "virtiofs virtio5",
        "shared memory 0000:00:03.0",
        "RDMA mlx5_0",
        "serial line ttyS0",
    )


def test_network_cards_that_are_given_away(tmp_path: Path) -> None:
    root = machine(tmp_path)
    virtio(root, "virtio2", "0x0001")
    virtio(root, "virtio3", "0x0001", driver="")  # nobody drives it: nothing passes
    pci(root, "0000:00:04.0", "0x020000", driver="vfio-pci")
    pci(root, "0000:00:05.0", "0x020000", driver="ice")
    pci(root, "0000:00:06.0", "0x020000")
    pci(root, "0000:00:07.0", "0x010000", driver="vfio-pci")  # a disk
    assert found(root) == (
        "network card virtio2: it has no device in this network namespace",
        "network card 0000:00:04.0: vfio-pci gives it to a program or a nested guest",
        "network card 0000:00:05.0: it has no device in this network namespace",
    )


def test_af_xdp_is_told_where_the_kernel_has_it(tmp_path: Path) -> None:
    def unreadable() -> bool:
        raise ControlFailed("no /proc")

    assert other_ways(machine(tmp_path), lambda: True) == ("AF_XDP sockets",)
    assert other_ways(tmp_path, unreadable) == ("not known: whether there is AF_XDP (no /proc)",)


def test_without_sys_that_is_said(tmp_path: Path) -> None:
    assert found(tmp_path) == (f"not known: {tmp_path} does not tell of devices",)
