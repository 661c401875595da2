# SPDX-License-Identifier: Apache-2.0
"""Which platform this is, from local files alone: no address is probed before this has spoken.

The table follows cloud-init's tools/ds-identify (04eacd06ee60).  More particular rules come first: many
clouds are OpenStack, many OpenStacks are QEMU, and some imitate EC2.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

UNKNOWN = "unknown"

#: with the two words "ec2" first, as Xen instances of EC2 have it; the second form is the same, little-endian
_EC2_UUID = re.compile(r"(ec2[0-9a-f]{5}|[0-9a-f]{4}2[0-9a-f]ec)-", re.IGNORECASE)
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
_OPENSTACK_TAGS = (
    "OpenTelekomCloud",
    "SAP CCloud VM",
    "HUAWEICLOUD",
    "Samsung Cloud Platform",
    "OpenStack Nova",
    "OpenStack Compute",
)


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What the local files say; "" = absent or unreadable.

    cmdline: /proc/cmdline.  xen_type, xen_uuid: /sys/hypervisor.  ports: names of virtio-serial ports.
    fw_cfg, vultr_file: whether /sys/firmware/qemu_fw_cfg and /etc/vultr are there.
    """

    sys_vendor: str = ""
    product_name: str = ""
    product_serial: str = ""
    product_uuid: str = ""
    chassis_asset_tag: str = ""
    board_asset_tag: str = ""
    bios_vendor: str = ""
    bios_version: str = ""
    cmdline: str = ""
    xen_type: str = ""
    xen_uuid: str = ""
    ports: tuple[str, ...] = ()
    fw_cfg: bool = False
    vultr_file: bool = False


class Identified(NamedTuple):
    """platform: a stable lower-case word, or UNKNOWN.  because: the file and value that decided."""

    platform: str
    because: str


class _Rule(NamedTuple):
    platform: str
    because: str
    holds: Callable[[Signs], bool]


def _is(platform: str, field: str, value: str) -> _Rule:
    return _Rule(platform, f"{field} is {value!r}", lambda s: getattr(s, field) == value)


def _starts(platform: str, field: str, value: str) -> _Rule:
    return _Rule(platform, f"{field} starts with {value!r}", lambda s: getattr(s, field).startswith(value))


def _ends(platform: str, field: str, value: str) -> _Rule:
    return _Rule(platform, f"{field} ends with {value!r}", lambda s: getattr(s, field).endswith(value))


def _word(platform: str, word: str) -> _Rule:
    return _Rule(platform, f"the kernel command line has {word!r}", lambda s: word in s.cmdline.split())


def _old_ec2(signs: Signs) -> bool:
    # One UUID in 2048 looks like this by chance: it counts only where the maker does not speak against it.
    maker = signs.sys_vendor in ("", "Xen") or "amazon" in (signs.sys_vendor + signs.bios_version).lower()
    return maker and _EC2_UUID.match(signs.product_uuid) is not None


_RULES: tuple[_Rule, ...] = (
    # imitate EC2
    _ends("brightbox", "product_serial", ".brightbox.com"),
    _ends("zstack", "chassis_asset_tag", ".zstack.io"),
    _is("e24cloud", "sys_vendor", "e24cloud"),
    _is("tilaa", "sys_vendor", "Tilaa"),
    _Rule(
        "outscale",
        "sys_vendor is '3DS Outscale' and product_name is '3DS Outscale VM'",
        lambda s: s.sys_vendor == "3DS Outscale" and s.product_name == "3DS Outscale VM",
    ),
    _is("aws", "sys_vendor", "Amazon EC2"),
    _Rule("aws", "the Xen UUID starts with 'ec2'", lambda s: s.xen_uuid.lower().startswith("ec2")),
    _Rule("aws", "product_uuid has the form of EC2 on Xen", _old_ec2),
    _is("azure", "chassis_asset_tag", _AZURE_TAG),
    _is("gcp", "product_name", "Google Compute Engine"),
    _starts("gcp", "product_serial", "GoogleCloud-"),
    _is("oci", "chassis_asset_tag", "OracleCloud.com"),
    _is("alibaba", "product_name", "Alibaba Cloud ECS"),
    _is("ibm", "chassis_asset_tag", "ibmcloud"),
    _is("digitalocean", "sys_vendor", "DigitalOcean"),
    _is("hetzner", "sys_vendor", "Hetzner"),
    _is("upcloud", "sys_vendor", "UpCloud"),
    _is("nwcs", "sys_vendor", "NWCS"),
    _is("vultr", "sys_vendor", "Vultr"),
    _word("vultr", "vultr"),
    _Rule("vultr", "/etc/vultr is there", lambda s: s.vultr_file),
    _is("scaleway", "sys_vendor", "Scaleway"),
    _word("scaleway", "scaleway"),
    _is("linode", "sys_vendor", "Linode"),
    _is("linode", "sys_vendor", "Akamai"),
    _starts("exoscale", "product_name", "Exoscale"),
    _starts("cloudstack", "product_name", "CloudStack"),
    _is("cloudsigma", "product_name", "CloudSigma"),
    _is("cloudcix", "product_name", "CloudCIX"),
    _starts("smartos", "product_name", "SmartDC"),
    _starts("openstack", "product_name", "OpenStack Nova"),
    _starts("openstack", "product_name", "OpenStack Compute"),
    *(_is("openstack", "chassis_asset_tag", tag) for tag in _OPENSTACK_TAGS),
    # no cloud: the hypervisor alone
    _starts("vmware", "sys_vendor", "VMware"),
    _starts("vmware", "product_name", "VMware"),
    _Rule(
        "hyperv",
        "sys_vendor is 'Microsoft Corporation', product_name is 'Virtual Machine', without Azure's asset tag",
        lambda s: s.sys_vendor == "Microsoft Corporation" and s.product_name == "Virtual Machine",
    ),
    _is("virtualbox", "sys_vendor", "innotek GmbH"),
    _is("xen", "xen_type", "xen"),
    _is("xen", "sys_vendor", "Xen"),
    _Rule(
        "lxd",
        "a virtio-serial port is LXD's",
        lambda s: any(p in ("com.canonical.lxd", "org.linuxcontainers.lxd") for p in s.ports),
    ),
    _is("kubevirt", "sys_vendor", "KubeVirt"),
    _is("qemu", "sys_vendor", "QEMU"),
    _is("qemu", "sys_vendor", "Red Hat"),
    _Rule("qemu", "fw_cfg is there", lambda s: s.fw_cfg),
)

#: every word that identify can answer
PLATFORMS = tuple(dict.fromkeys((*(rule.platform for rule in _RULES), UNKNOWN)))


def identify(signs: Signs) -> Identified:
    """The first rule that holds."""
    for rule in _RULES:
        if rule.holds(signs):
            return Identified(rule.platform, rule.because)
    return Identified(UNKNOWN, "no local file names a platform that is known here")
