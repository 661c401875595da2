# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from vmwarden.rules.platform import PLATFORMS, Signs, identify
from vmwarden.rules.virtualization import Detected, Traces, detect

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
UUID = "ec2ae145-d1dc-13b2-94ed-01234abcdef0"


@pytest.mark.parametrize(
    ("signs", "platform"),
    [
        ({}, "unknown"),
        ({"sys_vendor": "Dell Inc."}, "unknown"),
        ({"sys_vendor": "Amazon EC2", "board_asset_tag": "i-0123"}, "aws"),
        ({"xen_uuid": "ec2e1916-9099-7caf-fd21-012345abcdef", "xen_type": "xen"}, "aws"),
        ({"product_uuid": UUID.upper(), "sys_vendor": "Xen", "bios_version": "4.11.amazon"}, "aws"),
        ({"product_uuid": "45E12AEC-DCD1-B213-94ED-01234ABCDEF0", "sys_vendor": "Xen"}, "aws"),
        ({"product_uuid": UUID}, "aws"),
        ({"product_uuid": UUID, "sys_vendor": "QEMU"}, "qemu"),
        ({"product_serial": "x.brightbox.com", "product_uuid": UUID}, "brightbox"),
        ({"chassis_asset_tag": "123456.zstack.io", "product_uuid": UUID}, "zstack"),
        ({"sys_vendor": "e24cloud"}, "e24cloud"),
        ({"sys_vendor": "Tilaa"}, "tilaa"),
        ({"sys_vendor": "3DS Outscale", "product_name": "3DS Outscale VM"}, "outscale"),
        ({"sys_vendor": "3DS Outscale"}, "unknown"),
        (
            {
                "sys_vendor": "Microsoft Corporation",
                "product_name": "Virtual Machine",
                "chassis_asset_tag": AZURE_TAG,
            },
            "azure",
        ),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, "hyperv"),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Surface"}, "unknown"),
        ({"product_name": "Google Compute Engine"}, "gcp"),
        ({"product_serial": "GoogleCloud-8f2e88f"}, "gcp"),
        ({"product_name": "OpenStack Nova", "sys_vendor": "OpenStack Foundation"}, "openstack"),
        ({"product_name": "OpenStack Compute", "sys_vendor": "RDO"}, "openstack"),
        ({"chassis_asset_tag": "OpenTelekomCloud", "sys_vendor": "QEMU"}, "openstack"),
        ({"chassis_asset_tag": "OracleCloud.com", "sys_vendor": "QEMU"}, "oci"),
        ({"product_name": "Alibaba Cloud ECS", "sys_vendor": "Alibaba Cloud"}, "alibaba"),
        ({"chassis_asset_tag": "ibmcloud"}, "ibm"),
        ({"sys_vendor": "DigitalOcean"}, "digitalocean"),
        ({"sys_vendor": "Hetzner"}, "hetzner"),
        ({"sys_vendor": "Vultr"}, "vultr"),
        ({"cmdline": "root=/dev/vda1 vultr quiet"}, "vultr"),
        ({"cmdline": "root=/dev/vultr"}, "unknown"),
        ({"cmdline": "scaleway"}, "scaleway"),
        ({"sys_vendor": "Scaleway"}, "scaleway"),
        ({"sys_vendor": "UpCloud"}, "upcloud"),
        ({"sys_vendor": "NWCS"}, "nwcs"),
        ({"sys_vendor": "Linode"}, "linode"),
        ({"sys_vendor": "Akamai"}, "linode"),
        ({"product_name": "Exoscale Compute Platform", "sys_vendor": "Exoscale"}, "exoscale"),
        ({"product_name": "CloudStack KVM Hypervisor"}, "cloudstack"),
        ({"product_name": "CloudSigma"}, "cloudsigma"),
        ({"product_name": "CloudCIX"}, "cloudcix"),
        ({"product_name": "SmartDC HVM", "sys_vendor": "Joyent"}, "smartos"),
        ({"sys_vendor": "VMware, Inc.", "product_name": "VMware20,1"}, "vmware"),
        ({"sys_vendor": "innotek GmbH"}, "virtualbox"),
        ({"xen_type": "xen"}, "xen"),
        ({"sys_vendor": "QEMU", "ports": ("org.qemu.guest_agent.0", "com.canonical.lxd")}, "lxd"),
        ({"sys_vendor": "KubeVirt"}, "kubevirt"),
        ({"sys_vendor": "Red Hat", "product_name": "KVM"}, "qemu"),
        ({"fw_cfg": True}, "qemu"),
    ],
)
def test_platform(signs: dict[str, Any], platform: str) -> None:
    found = identify(Signs(**signs))
    assert found.platform == platform
    assert found.platform in PLATFORMS
    assert found.because


TCG = "model name\t: QEMU TCG CPU version 2.5+\nflags\t\t: fpu hypervisor\n"


@pytest.mark.parametrize(
    ("traces", "hypervisor"),
    [
        ({}, ""),
        ({"xen_type": "xen", "sys_vendor": "QEMU"}, "xen"),
        ({"sys_vendor": "Amazon EC2", "clocksources": "kvm-clock tsc"}, "amazon"),
        ({"product_name": "Google Compute Engine", "clocksources": "kvm-clock"}, "google"),
        ({"sys_vendor": "VMware, Inc."}, "vmware"),
        ({"sys_vendor": "innotek GmbH"}, "oracle"),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, "microsoft"),
        ({"clocksources": "hyperv_clocksource_tsc_page acpi_pm"}, "microsoft"),
        ({"sys_vendor": "QEMU", "clocksources": "kvm-clock tsc hpet"}, "kvm"),
        ({"sys_vendor": "OpenStack Foundation", "clocksources": "kvm-clock tsc"}, "kvm"),
        ({"sys_vendor": "QEMU", "product_name": "KVM Virtual Machine"}, "kvm"),
        ({"sys_vendor": "Red Hat", "product_name": "KVM"}, "kvm"),
        ({"device_tree": "linux,kvm"}, "kvm"),
        ({"device_tree": "xen,xen-4.17\0xen,xen"}, "xen"),
        ({"sys_vendor": "QEMU", "cpuinfo": TCG}, "qemu"),
        ({"sys_vendor": "QEMU"}, "qemu"),
        ({"fw_cfg": True}, "qemu"),
        ({"cpuinfo": "flags\t: fpu hypervisor\n"}, "vm-other"),
        ({"cpuinfo": "flags\t: fpu tsc\n"}, "none"),
        ({"cpuinfo": "Features\t: fp asimd\n"}, ""),
        ({"sys_vendor": "Dell Inc.", "cpuinfo": "flags\t: fpu tsc\n"}, "none"),
    ],
)
def test_virtualization(traces: dict[str, Any], hypervisor: str) -> None:
    found = detect(Traces(**traces))
    assert found == Detected(hypervisor, found.because)
    assert found.because
