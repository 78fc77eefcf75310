"""One file an engine; each is the only home of its library and satisfies gateway.inference.engine.Engine."""
