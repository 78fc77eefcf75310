"""Checks events against the public OCSF schema: classes, objects and dictionary as the files of its repository.

Profiles and most objects are not in the folder of test data. An object that is not there is checked by the dictionary
alone: its attributes must be known and of their types. What profiles add is listed here.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

# From profiles/host.json and profiles/ai_operation.json.
PROFILE_ATTRIBUTES = {"host": {"actor", "device"}, "ai_operation": {"ai_model"}}
CATEGORY_UIDS = {"iam": 3, "application": 6}
PYTHON_TYPES = {"boolean_t": bool, "float_t": float, "integer_t": int, "long_t": int, "string_t": str}  # fmt: skip
OTHER = 99


class Schema:
    """One version of the schema in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        dictionary = _load(folder / "dictionary.json")
        self.version = str(_load(folder / "version.json")["version"])
        self._dictionary: dict[str, Any] = dictionary["attributes"]
        self._types: dict[str, Any] = dictionary["types"]["attributes"]
        self._classes = self._load_classes()

    def faults(self, event: dict[str, Any]) -> list[str]:
        """What is wrong with an event, a line each; empty for a good one."""
        kind = self._classes.get(event.get("class_uid", -1))
        if kind is None:
            return [f"no class {event.get('class_uid')}"]
        profiles = event.get("metadata", {}).get("profiles", [])
        allowed = dict(kind["attributes"])
        for profile in profiles:
            allowed |= {name: {} for name in PROFILE_ATTRIBUTES[profile] if name not in allowed}
        return [
            *self._classification_faults(event, kind),
            *self._object_faults("", event, allowed, kind["constraints"]),
        ]

    def _load_classes(self) -> dict[int, dict[str, Any]]:
        files = {path.stem: _load(path) for path in self._folder.glob("events/**/*.json")}
        found = {}
        for definition in files.values():
            if "uid" not in definition:
                continue
            lineage = [*_lineage(definition, files)]
            category = lineage[1]
            uid = CATEGORY_UIDS[category["category"]] * 1000 + definition["uid"]
            found[uid] = {
                "caption": definition["caption"],
                "category_caption": category["caption"],
                "attributes": _merged(lineage),
                "constraints": definition.get("constraints", {}),
            }
        return found

    def _classification_faults(self, event: dict[str, Any], kind: dict[str, Any]) -> Iterator[str]:
        uid, activity_id = event["class_uid"], event.get("activity_id")
        expected = {
            "category_uid": uid // 1000,
            "category_name": kind["category_caption"],
            "class_name": kind["caption"],
            "type_uid": uid * 100 + int(activity_id or 0),
            "type_name": f"{kind['caption']}: {event.get('activity_name')}",
        }
        for name, value in expected.items():
            if event.get(name, value) != value:
                yield f"{name} is {event[name]!r}, not {value!r}"

    def _object_faults(
        self,
        path: str,
        value: dict[str, Any],
        attributes: dict[str, Any],
        constraints: dict[str, Any],
    ) -> Iterator[str]:
        for name, attribute in attributes.items():
            if attribute.get("requirement") == "required" and name not in value:
                yield f"{path}{name} is required"
        for constraint, names in constraints.items():
            count = len(value.keys() & set(names))
            if count == 0 or (constraint == "just_one" and count > 1):
                yield f"{path} breaks {constraint} {names}"
        for name, content in value.items():
            if name not in attributes:
                yield f"{path}{name} is unknown"
            else:
                yield from self._attribute_faults(f"{path}{name}", name, content, attributes, value)

    def _attribute_faults(
        self, path: str, name: str, content: Any, attributes: dict[str, Any], around: dict[str, Any]
    ) -> Iterator[str]:
        known = self._dictionary.get(name)
        if known is None:
            yield f"{path} is not in the dictionary"
            return
        attribute = {**known, **attributes[name]}
        kind = attribute["type"]
        if attribute.get("is_array"):
            if not isinstance(content, list):
                yield f"{path} is no list"
                return
            for index, item in enumerate(content):
                yield from self._value_faults(f"{path}[{index}]", item, kind)
        else:
            yield from self._value_faults(path, content, kind)
        # The numbers of classes and categories come from the folders; they are checked elsewhere.
        enum = {**known.get("enum", {}), **attributes[name].get("enum", {})}
        if enum and name not in {"class_uid", "category_uid"}:
            yield from _enum_faults(path, content, enum, around.get(attribute.get("sibling", "")))

    def _value_faults(self, path: str, content: Any, kind: str) -> Iterator[str]:
        if kind in self._types:
            yield from self._scalar_faults(path, content, kind)
        elif not isinstance(content, dict):
            yield f"{path} is no object"
        elif kind != "object":
            attributes, constraints = self._object(kind)
            yield from self._object_faults(f"{path}.", content, attributes, constraints)

    def _scalar_faults(self, path: str, content: Any, kind: str) -> Iterator[str]:
        definition = self._types[kind]
        expected = PYTHON_TYPES[definition.get("type", kind).replace("timestamp_t", "long_t")]
        if type(content) is not expected:
            yield f"{path} is {content!r}, no {kind}"
            return
        if len(str(content)) > definition.get("max_len", 1 << 62):
            yield f"{path} is longer than {definition['max_len']}"
        if "regex" in definition and not re.search(definition["regex"], str(content)):
            yield f"{path} is {content!r}, which no {kind} looks like"

    @lru_cache  # noqa: B019  (one schema lives as long as the tests)
    def _object(self, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
        files = {path.stem: _load(path) for path in self._folder.glob("objects/*.json")}
        if kind not in files:
            return {name: {} for name in self._dictionary}, {}
        lineage = [*_lineage(files[kind], files)]
        attributes = _merged(lineage)
        if lineage[-1].get("extends") not in (None, "object"):
            # Its parent is not in the folder, so anything the dictionary has may be the parent's.
            attributes = {name: {} for name in self._dictionary} | attributes
        return attributes, files[kind].get("constraints", _inherited_constraints(lineage))


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _lineage(
    definition: dict[str, Any], files: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    # The definition and what it extends, the nearest first, as far as the files go.
    current: dict[str, Any] | None = definition
    while current is not None:
        yield current
        current = files.get(current.get("extends", ""))


def _merged(lineage: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for definition in reversed(lineage):
        for name, attribute in definition["attributes"].items():
            if name == "$include":
                continue
            older = merged.get(name, {})
            enum = {**older.get("enum", {}), **attribute.get("enum", {})}
            merged[name] = {**older, **attribute, **({"enum": enum} if enum else {})}
    return merged


def _inherited_constraints(lineage: list[dict[str, Any]]) -> dict[str, Any]:
    for definition in lineage:
        if "constraints" in definition:
            return dict(definition["constraints"])
    return {}


def _enum_faults(path: str, content: Any, enum: dict[str, Any], sibling: Any) -> Iterator[str]:
    found = enum.get(str(content))
    if found is None:
        yield f"{path} is {content!r}, not one of {sorted(enum)}"
    elif content == OTHER and not sibling:
        yield f"{path} is other, and its name is missing"
    elif sibling is not None and content != OTHER and sibling != found["caption"]:
        yield f"{path} is {found['caption']!r}, and its name is {sibling!r}"
