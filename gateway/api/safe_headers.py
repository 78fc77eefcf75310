"""The header fields that every answer carries, whatever made it.

Rules: this list is the only place; an answer that needs another value for one of them must not be written.
"""

SAFE_HEADERS: tuple[tuple[str, str], ...] = (
    ("Strict-Transport-Security", "max-age=63072000"),  # two years; RFC 6797
    ("X-Content-Type-Options", "nosniff"),
    # No answer is a document: a browser that shows one anyway runs, loads and frames nothing.
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    # Answers are about one principal's images.
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
