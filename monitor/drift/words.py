"""Plain words for the features: what it means when one is higher, and when it is lower.

Rules: words for the features that the gateway is known to send and those that a reference defines; any other is named
as it is, so a new feature needs no change here.
"""

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
    "black_level": ("less deep in their shadows", "deeper in their shadows"),
    "white_level": ("lighter in their highlights", "duller in their highlights"),
    "entropy": ("richer in grey levels", "poorer in grey levels"),
    "saturation": ("more colourful", "paler"),
    "red_cast": ("redder", "less red"),
    "blue_cast": ("bluer", "less blue"),
    "haze": ("hazier", "clearer"),
    "red_edge_cast": ("lit redder", "lit less red"),
    "blue_edge_cast": ("lit bluer", "lit less blue"),
    "sharpness": ("sharper", "blurrier"),
    "fineness": ("finer in detail", "coarser in detail"),
    "fineness_spread": ("blurred along one direction", "as fine in every direction"),
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

# Whole clauses about what a reference defines. Along a direction of the embedding, neither way has a meaning.
FITTED_WORDS: Mapping[str, tuple[str, str]] = {
    "class_surprise": ("rarer classes are found", "commoner classes are found"),
    "embedding_distance": (
        "scenes are farther from the reference's",
        "scenes are nearer to the middle of the reference's",
    ),
    "embedding_residual": (
        "scenes hold what the reference's do not",
        "scenes are more alike than the reference's",
    ),
}
DIRECTION_WORDS = "scenes differ from the reference's in kind"

# What has no value only because no object was found.
NEEDS_OBJECTS = frozenset(
    {
        "mean_confidence",
        "max_confidence",
        "confidence_spread",
        "low_confidence_share",
        "mean_box_area",
        "mean_box_x",
        "mean_box_y",
        "mean_box_aspect",
        "mean_overlap",
        "class_surprise",
    }
)

# Whole numbers that are mostly equal: their mean moves where their median does not.
COUNTS = frozenset({"detection_count", "class_variety", "candidate_count"})

# Subjects of a clause with numbers, and what the numbers are of, where the feature's own name says it badly.
NOUNS: Mapping[str, str] = {
    "dark_share": "the share of dark pixels",
    "bright_share": "the share of overexposed pixels",
    "detection_count": "the count of objects",
    "class_variety": "the count of kinds of objects",
    "low_confidence_share": "the share of unsure boxes",
    "mean_box_area": "the mean area of boxes",
    "mean_box_x": "the middle of boxes, from the left,",
    "mean_box_y": "the middle of boxes, from the top,",
    "candidate_count": "the count of candidates",
}
UNITS: Mapping[str, str] = {
    "width": "pixels",
    "height": "pixels",
    "entropy": "bits",
    "noise": "grey levels",
    "detection_count": "an image",
    "class_variety": "an image",
    "candidate_count": "an image",
}
