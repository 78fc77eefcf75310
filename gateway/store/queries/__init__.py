"""All SQL over the gateway's tables, a module a table. Functions take an open connection and never commit."""
