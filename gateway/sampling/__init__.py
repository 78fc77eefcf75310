"""Samples of what goes in and out: numbers about each image and its detections, and the bounded way to the store."""
