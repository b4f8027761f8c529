"""What a server's certificate that did not pass means for delivery."""

from __future__ import annotations

from agent.sync.upstream import Paused, RetryLater, UpstreamError

_CERT_NOT_YET_VALID = 9
"""X509_V_ERR_CERT_NOT_YET_VALID of OpenSSL: here, most likely our own clock."""


def certificate_error(name: str, cause: BaseException | None) -> UpstreamError:
    """Time mends a certificate that is not valid yet, as it sets the clock; any other needs the operator.

    Args:
        name: The upstream.
        cause: Why the certificate did not pass.
    """
    import ssl  # OpenSSL, which TLS has loaded

    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code == _CERT_NOT_YET_VALID:
        return RetryLater(f"{name}: its certificate is not valid yet, or this device's clock is behind")
    return Paused(f"{name}: its certificate is not trusted: {cause}")
