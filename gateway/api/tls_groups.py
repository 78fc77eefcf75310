"""Which key exchange groups a handshake may use: X25519, P-256, P-384, and the post-quantum hybrid where it exists.

Rules: Python before 3.15 cannot say this for one context, so OpenSSL is told for the process, before the context is
made; whether it worked is proved by a handshake in memory, never assumed; a restriction that cannot be made is said
loudly and stops nothing, since the groups left over (X448, P-521) are not weak.
"""

import ctypes
import functools
import logging
import ssl
import tempfile
from typing import Any

GROUPS = "X25519:P-256:P-384"
HYBRID_GROUP = "X25519MLKEM768"
_HYBRID_SINCE = (3, 5)  # OpenSSL
_UNWANTED_CURVES = ("secp521r1", "X448")

# What a configuration of the system may say beside the groups is replaced with it, so OpenSSL's own defaults of today
# are written out. Python sets versions and ciphers for each context by itself.
_CONFIGURATION = """\
openssl_conf = gatewatch
[gatewatch]
ssl_conf = gatewatch_ssl
[gatewatch_ssl]
system_default = gatewatch_defaults
[gatewatch_defaults]
MinProtocol = TLSv1.2
CipherString = DEFAULT@SECLEVEL=2
Groups = {groups}
"""

log = logging.getLogger("gateway.api")


def wanted_groups(openssl_version: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO) -> str:
    """The groups in order of preference, in OpenSSL's words."""
    # The question mark: one that was built without it leaves it out, instead of all.
    return f"?{HYBRID_GROUP}:{GROUPS}" if openssl_version[:2] >= _HYBRID_SINCE else GROUPS


def server_context() -> ssl.SSLContext:
    """A context for servers with the wanted groups, if they can be set."""
    if not hasattr(ssl.SSLContext, "set_groups"):
        _limit_process()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if hasattr(context, "set_groups"):
        context.set_groups(wanted_groups())
    return context


def warn_of_unwanted_groups(context: ssl.SSLContext) -> None:
    """Say so if the restriction does not hold for this context, which has its certificate."""
    accepted = [curve for curve in _UNWANTED_CURVES if accepts_curve(context, curve)]
    if accepted:
        log.warning(
            "tls_groups_not_limited accepted=%s fix=set OPENSSL_CONF to a file with "
            "Groups = %s for system_default",
            ",".join(accepted),
            wanted_groups(),
        )


def accepts_curve(context: ssl.SSLContext, curve: str) -> bool:
    """Whether a server with this context answers a client that offers no group but this one."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    try:
        client_context.set_ecdh_curve(curve)
    except (ValueError, ssl.SSLError):
        return False  # this OpenSSL does not know it
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            return False
    return True


@functools.cache
def _limit_process() -> None:
    """Give OpenSSL the groups as a default for all contexts that are made from now on, clients' included."""
    try:
        load = _openssl().CONF_modules_load_file
        load.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong]
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:
            file.write(_CONFIGURATION.format(groups=wanted_groups()))
            file.flush()
            load(file.name.encode(), None, 0)
    except (AttributeError, OSError) as exc:
        log.info("openssl_not_configured reason=%s", exc)


def _openssl() -> Any:
    # The very library that Python's ssl uses: another copy in this process would be configured in vain.
    import _ssl

    return ctypes.CDLL(getattr(_ssl, "__file__", None))
