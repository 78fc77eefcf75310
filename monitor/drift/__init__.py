"""Evidence of drift, feature by feature. Pure numpy: arrays in, scores in 0..1 out; larger is more drift."""
