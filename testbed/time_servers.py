# SPDX-License-Identifier: Apache-2.0
"""Time servers in a namespace: chronyd with NTS, certificates of an authority made here, and our client."""

import base64
import datetime
import itertools
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vmwarden.linux.clock import SystemClock
from vmwarden.linux.tls_session import TlsSession
from vmwarden.model.message import Carried, Gather, ToWatcher
from vmwarden.model.time_servers import TrustedTime
from vmwarden.rules.certificate import pin
from vmwarden.testing.network import Namespace
from vmwarden.warden.network_time import NetworkTime
from vmwarden.watcher.relay import Relay

#: where tools/packages.sh unpacks the package; an installed one would be the machine's own clock's
UNPACKED = Path(__file__).parents[1] / ".cache" / "unpacked" / "chrony"
_DAY = datetime.timedelta(days=1)
#: a loaded machine starts chronyd in tens of milliseconds
_START_S = 10.0


@dataclass(frozen=True)
class Certificate:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path
    pin: str


class Authority:
    """Issues certificates below a folder."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        self._key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._root = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 9000 * _DAY)
            .not_valid_after(now + 9000 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(self._key_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def der(self) -> str:
        """As a policy has it."""
        return base64.b64encode(self._root.public_bytes(serialization.Encoding.DER)).decode()

    def issue(self, name: str, *, begin: int = -1, end: int = 30) -> Certificate:
        """For a DNS name; begin, end: days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin * _DAY)
            .not_valid_after(now + end * _DAY)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._key_id), critical=False
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = self._folder / f"{name}.{certificate.serial_number}"
        made = Certificate(
            stem.with_suffix(".crt"),
            stem.with_suffix(".key"),
            pin(
                key.public_key().public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            ),
        )
        made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made


class Chronyd:
    """One chronyd with NTS at one address of a namespace.  It never touches the clock of the machine (-x)."""

    def __init__(self, where: Namespace, folder: Path, address: str, *certificates: Certificate) -> None:
        """certificates: of its names, of which a client asks for one."""
        self.address = address
        self.certificates = certificates
        self._where = where
        self._folder = folder / address
        self._folder.mkdir(mode=0o700)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        configuration = self._folder / "chrony.conf"
        configuration.write_text(
            f"bindaddress {self.address}\nallow\nlocal stratum 1\nmanual\nuser root\ncmdport 0\n"
            f"ntsprocesses 0\nbindcmdaddress {self._folder}/command\npidfile {self._folder}/pid\n"
            + "".join(f"ntsservercert {c.certificate}\nntsserverkey {c.key}\n" for c in self.certificates)
        )
        with self._where.entered():
            self._process = subprocess.Popen(
                [program("chronyd"), "-x", "-4", "-n", "-L", "2", "-f", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        end = time.monotonic() + _START_S
        while not (self._folder / "command").exists():
            assert self._process.poll() is None, f"chronyd at {self.address} has ended"
            assert time.monotonic() < end, f"chronyd at {self.address} does not start"
            time.sleep(0.01)

    def lie(self, seconds: int) -> None:
        """From now on it says a time that much later."""
        wrong = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        environment = {"TZ": "UTC", "PATH": "/usr/bin"}
        done = subprocess.run(
            [
                program("chronyc"),
                "-h",
                f"{self._folder}/command",
                "-m",
                f"settime {wrong:%b %d, %Y %H:%M:%S}",
            ],
            env=environment,
            capture_output=True,
            timeout=10,
            check=False,
        )
        assert done.returncode == 0, done

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            (self._folder / "command").unlink(missing_ok=True)


def program(name: str) -> str:
    """Of chrony's package, which tools/packages.sh has unpacked."""
    found = next(UNPACKED.glob(f"usr/*bin/{name}"), None) or shutil.which(name, path="/usr/sbin:/usr/bin")
    assert found, f"no {name}: run tools/packages.sh test"
    return str(found)


#: what happens to one message of the watcher on its way: nothing, or other messages instead of it
Meddler = Callable[[Carried], Iterator[tuple[float, Carried]]]


def untouched(carried: Carried) -> Iterator[tuple[float, Carried]]:
    """(seconds late, message): as it came."""
    yield 0.0, carried


class Client:
    """Warden's and watcher's part in one place, without sandbox and socket between them.

    meddler stands for a captured watcher, or for whoever owns the network.
    """

    def __init__(
        self, where: Namespace, trusted: TrustedTime, *, floor_ms: int = 0, meddler: Meddler = untouched
    ) -> None:
        self.floor_ms = floor_ms
        self.meddler = meddler
        self._where = where
        self._clock = SystemClock()
        self._late: list[tuple[float, Carried]] = []
        self._relay = Relay(self._told)
        self.handshakes: list[str] = []
        self.time = NetworkTime(
            trusted,
            period_ms=20_000,
            connect=self._connect,
            random=os.urandom,
            new_line=itertools.count(1).__next__,
        )

    def _connect(self, *, name: str, authorities: tuple[bytes, ...]) -> TlsSession:
        self.handshakes.append(name)
        return TlsSession(name=name, authorities=authorities)

    def _told(self, carried: Carried) -> None:
        now = time.monotonic()
        self._late += [(now + late, message) for late, message in self.meddler(carried)]

    def turn(self) -> None:
        """Until something happens, and no longer than it may take."""
        now = self._clock.now()
        self._carry(self.time.step(now, floor_ms=self.floor_ms))
        poll = select.poll()
        self._relay.register(poll)
        for descriptor in self.time.descriptors():
            poll.register(descriptor, select.POLLIN)
        wait = min(self.time.wait_ms(now), 100 if not self._late else 1)
        for descriptor, _ in poll.poll(wait):
            self._relay.ready(descriptor)
        self._relay.overdue(self._clock.now())
        due = [message for at, message in self._late if at <= time.monotonic()]
        self._late = [(at, message) for at, message in self._late if at > time.monotonic()]
        for message in due:
            self._carry(self.time.hear(message, self._clock.now(), floor_ms=self.floor_ms))

    def until(self, done: Callable[[], bool], within_s: float) -> float:
        """Seconds until done."""
        begin = time.monotonic()
        while not done():
            assert time.monotonic() < begin + within_s, self.ids()
            self.turn()
        return time.monotonic() - begin

    def round(self, within_s: float = 15.0) -> float:
        """Seconds until a whole round is over."""
        before = self.time.rounds
        self.time.ask(self._clock.now())
        return self.until(lambda: self.time.rounds > before, within_s)

    def ids(self) -> dict[str, str]:
        """Of the last round: server, and what was said of it; "" for the round itself."""
        return {finding.source: finding.id for finding in self.time.findings()}

    def close(self) -> None:
        self.time.close()
        self._relay.close()

    def _carry(self, orders: tuple[ToWatcher, ...]) -> None:
        with self._where.entered():
            for order in orders:
                assert not isinstance(order, Gather)
                self._relay.order(order, self._clock.now())
