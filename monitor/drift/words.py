"""Plain words for the gateway's features: what it means when one is higher, and when it is lower."""

from collections.abc import Mapping

# "images are ... than the reference"
IMAGE_WORDS: Mapping[str, tuple[str, str]] = {
    "width": ("wider", "narrower"),
    "height": ("taller", "less tall"),
    "aspect_ratio": ("wider for their height", "taller for their width"),
    "bits_per_pixel": (
        "richer in detail or less compressed",
        "poorer in detail or more compressed",
    ),
    "brightness": ("brighter", "darker"),
    "contrast": ("richer in contrast", "flatter"),
    "dark_share": ("deeper in shadow", "less deep in shadow"),
    "bright_share": ("more overexposed", "less overexposed"),
    "entropy": ("richer in grey levels", "poorer in grey levels"),
    "saturation": ("more colourful", "paler"),
    "red_cast": ("redder", "less red"),
    "blue_cast": ("bluer", "less blue"),
    "sharpness": ("sharper", "blurrier"),
    "noise": ("noisier", "smoother"),
    "blockiness": ("more blocky from JPEG", "less blocky from JPEG"),
}

# Whole clauses about what the model finds.
OUTPUT_WORDS: Mapping[str, tuple[str, str]] = {
    "detection_count": ("more objects are found", "fewer objects are found"),
    "class_variety": ("more kinds of objects are found", "fewer kinds of objects are found"),
    "mean_confidence": ("the model is surer", "the model is less sure"),
    "max_confidence": ("the best boxes are surer", "the best boxes are less sure"),
    "confidence_spread": ("confidences are less alike", "confidences are more alike"),
    "low_confidence_share": ("more boxes are unsure", "fewer boxes are unsure"),
    "mean_box_area": ("objects are larger or nearer", "objects are smaller or farther"),
    "mean_box_x": ("objects are further right", "objects are further left"),
    "mean_box_y": ("objects are further down", "objects are further up"),
    "mean_box_aspect": ("boxes are wider for their height", "boxes are taller for their width"),
    "mean_overlap": ("objects overlap more", "objects overlap less"),
    "candidate_count": (
        "the model takes more places for objects",
        "the model takes fewer places for objects",
    ),
}
