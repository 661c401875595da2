# SPDX-License-Identifier: Apache-2.0
"""What one source claims about one subject."""

from enum import StrEnum

from vmwarden.model.wire import Wire


class Proof(StrEnum):
    """How well a claim is proven, weakest first; compare with vmwarden.rules.facts.reaches.

    measured is not on the line: it bounds a distance and proves nothing else.
    """

    DECLARED = "declared"
    SIGNED = "signed"
    FRESH = "fresh"
    ATTESTED = "attested"
    MEASURED = "measured"


class Subject(StrEnum):
    """What evidence may speak about.  Values are frozen: policies and journals carry them."""

    COUNTRY = "place.country"  # ISO 3166-1 alpha-2, upper case
    SUBDIVISION = "place.subdivision"  # ISO 3166-2, for example DE-HE
    CITY = "place.city"
    POSTAL_CODE = "place.postal_code"  # as the source wrote it; rules.postal normalises
    TIME_ZONE = "place.time_zone"  # IANA name
    BUILDING = "place.building"
    REGION = "place.region"  # a provider's own name of a region
    ZONE = "place.zone"  # a provider's own name of a zone
    HOST_ID = "host.id"
    HOST_NAME = "host.name"
    PLATFORM = "host.platform"
    HYPERVISOR = "host.hypervisor"
    HYPERVISOR_VERSION = "host.hypervisor_version"
    COMPLIANCE = "host.compliance"  # a tuple of labels
    FIRMWARE = "host.firmware"
    PRODUCT = "host.product"
    SERIAL = "host.serial"
    VM_UUID = "host.vm_uuid"
    CLOCK = "clock.utc"
    RTC_OFFSET = "clock.rtc_offset"  # whole seconds, RTC minus system clock
    GUEST_TIME_ZONE = "guest.time_zone"  # what this VM is set to: says nothing of the host
    STATEMENT = "host.statement"  # as a whole: the digest of one unread, or why there is none


Value = str | int | tuple[str, ...] | None


class Evidence(Wire, frozen=True, kw_only=True):
    """One claim.  Times are milliseconds; None = the source does not say.

    id: unique in one gathering, "<source>/<subject>[/<n>]".
    value: None exactly if unavailable says why there is none.
    signer: SHA256 fingerprint of the key that signed it; "" for declared claims.
    boot_frozen: the value was fixed when the VM was started and may be stale after a live migration.
    observed_boot_ms: CLOCK_BOOTTIME at which we saw it: its age is measured from here.
    finding: stable id of what is wrong where unavailable is not "" (for example statement.expired).
    """

    id: str
    subject: Subject
    source: str
    value: Value = None
    proof: Proof = Proof.DECLARED
    signer: str = ""
    issued_at_ms: int | None = None
    observed_at_ms: int = 0
    observed_boot_ms: int = 0
    valid_until_ms: int | None = None
    boot_frozen: bool = False
    unavailable: str = ""
    finding: str = ""
