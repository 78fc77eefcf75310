"""Surgery on ONNX graphs where models are sealed: the pooled feature output and the obfuscation.

Rules: bytes in, bytes out, nothing on disk; the outputs that were there keep every bit; the onnx package belongs to
the `seal` extra, so it is imported inside functions only. Nothing here knows an engine.
"""
