"""All that speaks HTTP: the listener, the one table of routes, bodies, problems, a file a protocol."""
