"""Writes bundle.toml in the order and style of docs/bundles.md, and reads it back."""

import json
import tomllib


def value(v):
    if isinstance(v, bool):
        return str(v).lower()
    if isinstance(v, str):
        return json.dumps(v, ensure_ascii=False)
    if isinstance(v, float):
        return repr(v)
    if isinstance(v, int):
        return str(v)
    if isinstance(v, dict):
        return "{ " + ", ".join(f"{key(k)} = {value(x)}" for k, x in v.items()) + " }"
    assert isinstance(v, (list, tuple)), type(v)
    one_line = "[" + ", ".join(map(value, v)) + "]"
    if len(one_line) < 100:
        return one_line
    return "[\n" + "".join(f"  {value(x)},\n" for x in v) + "]"


def key(k):
    return k if k.replace("_", "").replace("-", "").isalnum() and k.isascii() else json.dumps(k)


def table(header, entries, indent=""):
    """One [header] or [[header]] with its keys; lists of dicts become nested [[tables]]."""
    lines, nested = [f"{indent}{header}"], []
    name = header.strip("[]")
    for k, v in entries.items():
        if isinstance(v, list) and v and isinstance(v[0], dict):
            nested += [table(f"[[{name}.{k}]]", x, indent + "  ") for x in v]
        else:
            lines.append(f"{indent}{key(k)} = {value(v)}")
    return "\n".join(lines + nested)


def dump(manifest):
    blocks = ["\n".join(f"{k} = {value(v)}" for k, v in manifest["head"].items())]
    for name in ("modalities", "tasks", "encoders"):
        blocks += [table(f"[[{name}]]", x) for x in manifest[name]]
    blocks.append(table("[gate]", manifest["gate"]))
    blocks += [table("[[experts]]", x) for x in manifest["experts"]]
    blocks += [table("[[products]]", x) for x in manifest.get("products", [])]
    blocks.append(table("[combine]", manifest["combine"]))
    for name in ("offload", "golden"):
        plain = {k: v for k, v in manifest[name].items() if not isinstance(v, list)}
        blocks.append(table(f"[{name}]", plain))
        for key, rows in manifest[name].items():
            if isinstance(rows, list):
                blocks += [table(f"[[{name}.{key}]]", x) for x in rows]
    blocks.append(table("[digests]", manifest["digests"]))
    return "\n\n".join(blocks) + "\n"


def read(folder):
    """The manifest of a packed bundle, in the shape that `dump` takes."""
    parsed = tomllib.loads((folder / "bundle.toml").read_text())
    head = {k: v for k, v in parsed.items() if not isinstance(v, (dict, list))}
    return {"head": head} | {k: v for k, v in parsed.items() if k not in head}


def calibration(folder):
    """What `calibrate` left in a packed bundle; temperatures are in its models."""
    m = read(folder)
    return {
        "competence": {e["name"]: list(e["competence"].values()) for e in m["experts"]},
        "sharpness": m["combine"]["sharpness"],
        "thresholds": [[t["product"], t["risk"], t["threshold"]] for t in m["offload"]["thresholds"] if not t.get("restricted")],
    }
