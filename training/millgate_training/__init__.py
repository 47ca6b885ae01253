"""Trains, calibrates and packs the `factory` bundle of Millgate."""
