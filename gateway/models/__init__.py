"""Model versions in a running gateway: loading, sharing out requests, and changing what is in production."""
