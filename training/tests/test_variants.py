"""Variants in a bundle's manifest. Run with `python -m unittest discover tests`."""

import json
import tempfile
import unittest
from pathlib import Path

from millgate_training import check, manifest, variants
from millgate_training.config import INT8

FACTORY = Path(__file__).parents[2] / "models" / "factory"


def measured(gains=(3.049, 2.999), before=0.99, after=0.9894):
    scores = {"fp32": {"accuracy": before}, "int8": {"accuracy": after}}
    return {"cpu": {str(n): {"gain": g} for n, g in enumerate(gains)}, "gate and val": scores, "ships": True}


class Entry(unittest.TestCase):
    def test_it_names_the_least_gain_and_the_loss(self):
        found = variants.entry(measured(), 0.2061)
        self.assertEqual(found["measured"], {"speed_up": 2.99, "accuracy_lost": 0.0006})
        self.assertEqual((found["file"], found["precision"], found["engine"]), (INT8, "int8", "onnxruntime"))

    def test_the_tolerance_leaves_room_for_other_processors(self):
        self.assertEqual(variants.entry(measured(), 0.2061)["logit_tolerance"], 0.42)
        self.assertEqual(variants.entry(measured(), 0.001)["logit_tolerance"], 0.05)


class Shipped(unittest.TestCase):
    def test_a_manifest_survives_reading_and_writing(self):
        self.assertEqual(manifest.dump(manifest.read(FACTORY)), (FACTORY / "bundle.toml").read_text())

    def test_the_shipped_variants_answer_as_their_experts(self):
        for expert in manifest.read(FACTORY)["experts"]:
            for variant in expert.get("variants", []):
                check.like(FACTORY, expert["name"], variant)
                self.assertLessEqual(2 * variants.difference(FACTORY, expert["name"]), variant["logit_tolerance"] + 1e-9)


class Adding(unittest.TestCase):
    def test_what_is_not_worth_it_any_more_goes(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "pcb-l" / "1").mkdir(parents=True)
            (folder / "pcb-l" / "1" / INT8).write_bytes(b"old")
            written = {"experts": [{"name": "pcb-l", "variants": [{"file": INT8}]}, {"name": "pcb-s"}]}
            (folder / "int8.json").write_text(json.dumps({"experts": {"pcb-l": measured() | {"ships": False}}}))
            variants.add(folder, folder, written)
            self.assertFalse((folder / "pcb-l" / "1" / INT8).exists())
            self.assertEqual(written, {"experts": [{"name": "pcb-l"}, {"name": "pcb-s"}]})


if __name__ == "__main__":
    unittest.main()
