"""Hostile bytes to an image to detections, in this process.

Rules: no pixel is decoded before the header's dimensions are checked; the gateway's other packages are not known here;
weights arrive as bytes.
"""
