# SPDX-License-Identifier: Apache-2.0
"""TLS 1.3 for NTS key establishment, as a client, over memory, by the system's libssl.

For vmwarden.linux.tls_program alone: no other process of ours lets OpenSSL read what strangers send.
Python's ssl cannot export keys (CPython issue 82133).  All numbers are OpenSSL's:
include/openssl/{ssl,tls1,x509_vfy,x509v3,crypto}.h of 3.0; the functions are documented and stable.
"""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_uint, c_uint64, c_ulong, c_void_p
from typing import Any, Literal

from vmwarden.rules.nts_ke import ALPN, CLIENT_TO_SERVER, EXPORTER, KEY_BYTES, SERVER_TO_CLIENT

LIBRARY = "libssl.so.3"
_INIT_NO_LOAD_CONFIG = 0x80  # /etc/ssl/openssl.cnf has no say here
_TLS1_3 = 0x0304
_SET_MIN_PROTO, _SET_MAX_PROTO, _SET_MAX_CERT_LIST, _SET_HOST_NAME = 123, 124, 51, 55
_VERIFY_NONE = 0  # it is looked at, and judged here
#: what the chain's dates are compared with is for the warden to say
_NO_CHECK_TIME = 0x20_0000
#: whatever stands under authorities is trusted as it stands, an intermediate too
_PARTIAL_CHAIN = 0x8_0000
_NO_PARTIAL_WILDCARDS, _NEVER_CHECK_SUBJECT = 0x4, 0x20
_WANT_READ, _ZERO_RETURN = 2, 6
_SECURITY_LEVEL = 2  # 112 bits: RSA from 2048, no SHA-1
_CERTIFICATES_BYTES = 1 << 15
_CHUNK = 1 << 14
_DAY_MS = 86_400_000

_P = c_void_p
#: result and arguments of every function that is used
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "OPENSSL_init_ssl": (c_int, (c_uint64, _P)),
    "TLS_client_method": (_P, ()),
    "SSL_CTX_new": (_P, (_P,)),
    "SSL_CTX_ctrl": (c_long, (_P, c_int, c_long, _P)),
    "SSL_CTX_set_alpn_protos": (c_int, (_P, c_char_p, c_uint)),
    "SSL_CTX_set_security_level": (None, (_P, c_int)),
    "SSL_CTX_set_verify": (None, (_P, c_int, _P)),
    "SSL_CTX_get_cert_store": (_P, (_P,)),
    "SSL_CTX_get0_param": (_P, (_P,)),
    "SSL_new": (_P, (_P,)),
    "SSL_ctrl": (c_long, (_P, c_int, c_long, c_char_p)),
    "SSL_set_connect_state": (None, (_P,)),
    "SSL_set_bio": (None, (_P, _P, _P)),
    "SSL_do_handshake": (c_int, (_P,)),
    "SSL_get_error": (c_int, (_P, c_int)),
    "SSL_read": (c_int, (_P, c_char_p, c_int)),
    "SSL_write": (c_int, (_P, c_char_p, c_int)),
    "SSL_version": (c_int, (_P,)),
    "SSL_get0_alpn_selected": (None, (_P, POINTER(_P), POINTER(c_uint))),
    "SSL_get_verify_result": (c_long, (_P,)),
    "SSL_get1_peer_certificate": (_P, (_P,)),
    "SSL_get0_verified_chain": (_P, (_P,)),
    "SSL_export_keying_material": (
        c_int,
        (_P, c_char_p, c_size_t, c_char_p, c_size_t, c_char_p, c_size_t, c_int),
    ),
    "BIO_s_mem": (_P, ()),
    "BIO_new": (_P, (_P,)),
    "BIO_read": (c_int, (_P, c_char_p, c_int)),
    "BIO_write": (c_int, (_P, c_char_p, c_int)),
    "X509_STORE_add_cert": (c_int, (_P, _P)),
    "X509_VERIFY_PARAM_set_flags": (c_int, (_P, c_ulong)),
    "X509_verify_cert_error_string": (c_char_p, (c_long,)),
    "X509_check_host": (c_int, (_P, c_char_p, c_size_t, c_uint, _P)),
    "X509_get_X509_PUBKEY": (_P, (_P,)),
    "X509_get0_notBefore": (_P, (_P,)),
    "X509_get0_notAfter": (_P, (_P,)),
    "ASN1_TIME_set": (_P, (_P, c_long)),
    "ASN1_TIME_diff": (c_int, (POINTER(c_int), POINTER(c_int), _P, _P)),
    "OPENSSL_sk_num": (c_int, (_P,)),
    "OPENSSL_sk_value": (_P, (_P, c_int)),
    "d2i_X509": (_P, (_P, POINTER(_P), c_long)),
    "i2d_X509_PUBKEY": (c_int, (_P, POINTER(_P))),
    "ERR_get_error": (c_ulong, ()),
    "ERR_reason_error_string": (c_char_p, (c_ulong,)),
}


class TlsFailed(Exception):
    """why: as vmwarden.ports.tls.Failed."""

    def __init__(self, why: Literal["name", "authority", "tls"], text: str) -> None:
        self.why = why
        super().__init__(text)


class Client:
    """One connection to the server of that name.  It lives as long as the process."""

    def __init__(self, name: str, authorities: tuple[bytes, ...]) -> None:
        """authorities: roots in DER; none: whoever reads key() judges it.  Raises TlsFailed."""
        self._name = name.encode("ascii")
        self._authorities = len(authorities)
        try:
            self._lib: Any = ctypes.CDLL(LIBRARY)
            for function, (result, arguments) in _FUNCTIONS.items():
                found = getattr(self._lib, function)
                found.restype, found.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise TlsFailed("tls", f"no {LIBRARY} that fits: {error}") from error
        lib = self._lib
        self._require(lib.OPENSSL_init_ssl(_INIT_NO_LOAD_CONFIG, None) == 1, "libssl does not begin")
        context = lib.SSL_CTX_new(lib.TLS_client_method())
        self._require(context, "no context")
        for command, number in (
            (_SET_MIN_PROTO, _TLS1_3),
            (_SET_MAX_PROTO, _TLS1_3),
            (_SET_MAX_CERT_LIST, _CERTIFICATES_BYTES),
        ):
            self._require(lib.SSL_CTX_ctrl(context, command, number, None), f"control {command}")
        lib.SSL_CTX_set_security_level(context, _SECURITY_LEVEL)
        protocols = bytes((len(ALPN),)) + ALPN
        self._require(lib.SSL_CTX_set_alpn_protos(context, protocols, len(protocols)) == 0, "no ALPN")
        lib.SSL_CTX_set_verify(context, _VERIFY_NONE, None)
        flags = _NO_CHECK_TIME | _PARTIAL_CHAIN
        self._require(
            lib.X509_VERIFY_PARAM_set_flags(lib.SSL_CTX_get0_param(context), flags), "no verification"
        )
        for der in authorities:
            self._trust(context, der)
        self._ssl = lib.SSL_new(context)
        self._in, self._out = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        self._require(self._ssl and self._in and self._out, "no memory")
        lib.SSL_set_bio(self._ssl, self._in, self._out)
        self._require(lib.SSL_ctrl(self._ssl, _SET_HOST_NAME, 0, self._name), "no server name")
        lib.SSL_set_connect_state(self._ssl)

    def receive(self, data: bytes) -> None:
        """Bytes of the server.  Raises TlsFailed."""
        self._require(self._lib.BIO_write(self._in, data, len(data)) == len(data), "no memory")

    def to_send(self) -> bytes:
        """Bytes for the server, at most 16384 of them; empty: no more for now."""
        return self._read(lambda buffer: int(self._lib.BIO_read(self._out, buffer, _CHUNK)))

    def handshake(self) -> bool:
        """Go on with it; whether it is over.  Raises TlsFailed, also for a server that is the wrong one."""
        result = self._lib.SSL_do_handshake(self._ssl)
        if result != 1:
            self._more(result)
            return False
        if self._lib.SSL_version(self._ssl) != _TLS1_3 or self._protocol() != ALPN:
            raise TlsFailed("tls", "the server does not speak NTS-KE over TLS 1.3")
        self._judge()
        return True

    def write(self, data: bytes) -> None:
        """To the server, inside.  Raises TlsFailed."""
        written = self._lib.SSL_write(self._ssl, data, len(data))
        if written != len(data):
            self._more(written)

    def read(self) -> bytes:
        """What the server said inside; empty: no more for now.  Raises TlsFailed, also when it hung up."""
        result = 0

        def into(buffer: "ctypes.Array[ctypes.c_char]") -> int:
            nonlocal result
            result = self._lib.SSL_read(self._ssl, buffer, _CHUNK)
            return int(result)

        data = self._read(into)
        if not data:
            self._more(result)
        return data

    def keys(self) -> tuple[bytes, bytes]:
        """Client to server, server to client (RFC 8915 section 5.1).  Raises TlsFailed."""
        return self._exported(CLIENT_TO_SERVER), self._exported(SERVER_TO_CLIENT)

    def key(self) -> bytes:
        """The server's public key, SubjectPublicKeyInfo in DER.  Raises TlsFailed."""
        lib = self._lib
        public = lib.X509_get_X509_PUBKEY(self._leaf())
        length = lib.i2d_X509_PUBKEY(public, None)
        self._require(length > 0, "no key")
        buffer = ctypes.create_string_buffer(length)
        at = c_void_p(ctypes.addressof(buffer))
        self._require(lib.i2d_X509_PUBKEY(public, byref(at)) == length, "no key")
        return buffer.raw

    def period(self) -> tuple[int, int]:
        """When the whole chain is valid, milliseconds since 1970.  Raises TlsFailed."""
        lib = self._lib
        chain = lib.SSL_get0_verified_chain(self._ssl) if self._authorities else None
        count = lib.OPENSSL_sk_num(chain) if chain else 0
        certificates = [lib.OPENSSL_sk_value(chain, index) for index in range(count)] or [self._leaf()]
        return (
            max(self._since_1970(lib.X509_get0_notBefore(each)) for each in certificates),
            min(self._since_1970(lib.X509_get0_notAfter(each)) for each in certificates),
        )

    # -- within -----------------------------------------------------------------------------------

    def _trust(self, context: int, der: bytes) -> None:
        at = ctypes.cast(c_char_p(der), c_void_p)
        certificate = self._lib.d2i_X509(None, byref(at), len(der))
        if not certificate:
            raise TlsFailed("authority", "what stands under authorities is no certificate")
        self._require(
            self._lib.X509_STORE_add_cert(self._lib.SSL_CTX_get_cert_store(context), certificate),
            "an authority is not taken",
        )

    def _judge(self) -> None:
        if self._authorities:
            result = self._lib.SSL_get_verify_result(self._ssl)
            if result != 0:
                said = self._lib.X509_verify_cert_error_string(result).decode("ascii", "replace")
                raise TlsFailed("authority", f"no authority vouches for its certificate: {said}")
        flags = _NO_PARTIAL_WILDCARDS | _NEVER_CHECK_SUBJECT
        if self._lib.X509_check_host(self._leaf(), self._name, len(self._name), flags, None) != 1:
            raise TlsFailed("name", "its certificate is not made out to that name")

    def _leaf(self) -> int:
        leaf: int | None = self._lib.SSL_get1_peer_certificate(self._ssl)
        if not leaf:
            raise TlsFailed("tls", "the server has no certificate")
        return leaf

    def _protocol(self) -> bytes:
        at, length = c_void_p(), c_uint()
        self._lib.SSL_get0_alpn_selected(self._ssl, byref(at), byref(length))
        return ctypes.string_at(at, length.value) if at.value else b""

    def _exported(self, context: bytes) -> bytes:
        key = ctypes.create_string_buffer(KEY_BYTES)
        done = self._lib.SSL_export_keying_material(
            self._ssl, key, KEY_BYTES, EXPORTER, len(EXPORTER), context, len(context), 1
        )
        self._require(done == 1, "no keys")
        return key.raw

    def _since_1970(self, time: int) -> int:
        days, seconds = c_int(), c_int()
        epoch = self._lib.ASN1_TIME_set(None, 0)
        done = self._lib.ASN1_TIME_diff(byref(days), byref(seconds), epoch, time)
        self._require(done == 1, "the certificate has a date that is none")
        return days.value * _DAY_MS + seconds.value * 1000

    def _read(self, into: "Callable[[ctypes.Array[ctypes.c_char]], int]") -> bytes:
        buffer = ctypes.create_string_buffer(_CHUNK)
        length = into(buffer)
        return buffer.raw[:length] if length > 0 else b""

    def _more(self, result: int) -> None:
        """Raises TlsFailed unless the server only has to say more."""
        code = self._lib.SSL_get_error(self._ssl, result)
        if code == _ZERO_RETURN:
            raise TlsFailed("tls", "the server has hung up")
        if code != _WANT_READ:
            raise TlsFailed("tls", self._reason())

    def _require(self, done: object, what: str) -> None:
        if not done:
            raise TlsFailed("tls", f"{what}: {self._reason()}")

    def _reason(self) -> str:
        said = self._lib.ERR_reason_error_string(self._lib.ERR_get_error())
        return said.decode("ascii", "replace") if said else "OpenSSL does not say why"
