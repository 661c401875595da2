# SPDX-License-Identifier: Apache-2.0
"""During boot root may ask the platform's metadata service, as nft rules of both layers.

cloud-init asks it for the network's settings and the owner's keys before anything of ours can run.  The set
`booting` switches this on, with the keys of the table's lease.  The boot file fills it for UNTIL_END, so
that it ends in the kernel, whatever else happens; the warden may empty it before.
"""

SET = "booting"
#: twice what a cloud image takes until cloud-init has read its data, on the slow machine of the tests
UNTIL_END = "2m"
#: Address, and the TCP ports asked.  169.254.169.254: AWS, Azure, GCP, OpenStack and most others; its port 53
#: is a resolver, which would carry anything out.  168.63.129.16: Azure's wire server, 32526 for its host
#: plugin (learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
#: 100.100.100.200: Alibaba Cloud.  fd00:ec2::254: AWS over IPv6.
SERVICES = (
    ("ip", "169.254.169.254", (80,)),
    ("ip", "100.100.100.200", (80,)),
    ("ip", "168.63.129.16", (80, 32526)),
    ("ip6", "fd00:ec2::254", (80,)),
)


def into() -> list[str]:
    """Replies."""
    return [
        f"{family} saddr {where} tcp sport {_ports(ports)} jump replies" for family, where, ports in SERVICES
    ]


def out() -> list[str]:
    """Questions by root."""
    return [
        f"meta skuid 0 {family} daddr {where} tcp dport {_ports(ports)} accept"
        for family, where, ports in SERVICES
    ]


def _ports(ports: tuple[int, ...]) -> str:
    return f"{{ {', '.join(str(port) for port in ports)} }}"
