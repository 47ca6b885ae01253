"""Closes a bundle: digests, manifest, a strict reading back, and only then the swap with the old one."""

import hashlib
import os
import shutil

from . import check, manifest


def beside(out):
    """A new, absent folder on the same disk."""
    folder = out.with_name(f".{out.name}.new")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def digest(path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def seal(folder, written, out):
    closing = {"bundle.toml", "model.sig"}
    files = sorted({p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - closing)
    written["digests"] = {name: digest(folder / name) for name in files}
    (folder / "bundle.toml").write_text(manifest.dump(written))
    check.check(folder)
    swap(folder, out)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(f"{out.name}: {len(files) + 1} files, {size / 1e6:.2f} MB, digest {digest(out / 'bundle.toml')}")


def swap(new, out):
    """Puts the new folder in the old one's place; a reader meets one or the other."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(new, out)
    shutil.rmtree(old, ignore_errors=True)
