"""Who calls and what they may do: strict access tokens, issuers' key sets, roles and permissions.

Rules: the only home of PyJWT; nothing here does I/O but `issue`, which reads and makes key files;
every refusal of a token is an AuthnError with one constant message and a reason from a closed list.
"""
