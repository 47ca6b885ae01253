"""Moves pits between spindle images, so that worn and pitted stop meaning the same, and pits turn up anywhere.

In the training part every place on the rig's spindle wears and pits at the same time and at the same height, and a
network learns that. The rig's images are aligned, so a patch of one place fits another at the same spot: it takes a pit
away or brings one. And the dark part of a pit can be planted on any other image.
"""

import numpy as np
from scipy.ndimage import grey_closing, zoom

# Centre (x, y) of the pit at each place of the rig, read off the training images.
PLACES = {
    "277500_315": (44, 80),
    "332500_225": (77, 63),
    "397500_315": (98, 52),
    "430000_180": (83, 59),
    "490000_180": (85, 58),
    "517500_315": (80, 60),
    "585000_090": (87, 57),
    "597500_315": (90, 56),
}
SIZE = 8  # a pit reaches at most this far from its centre
SWAP, PLANT = 0.4, 0.3  # shares of the rig images that get a patch of another place, and a planted pit
FEATHER = 3


class Pits:
    def __init__(self, images, y, group):
        self.images, self.y = images, y
        self.place = np.array([PLACES.get(g, (-1, -1)) for g in group])
        self.rig = np.flatnonzero(self.place[:, 0] >= 0)
        self.dark = self._darkness()

    def _darkness(self):
        """What the clearer pits take away from their surroundings, as patches."""
        found = []
        for i in self.rig[self.y[self.rig] == 1]:
            x, y = self.place[i]
            near = self.images[i].astype(np.float32)[y - 24 : y + 25, x - 24 : x + 25]
            dark = (near - grey_closing(near, size=(11, 11)))[13:36, 13:36]
            found.append(dark * _mask(dark.shape, (11, 11), 10))
        strength = [-d[7:16, 7:16].mean() for d in found]
        clear = [d for d, s in zip(found, strength) if s > np.quantile(strength, 0.35)]
        return [[_shrink(d, factor) for d in clear] for factor in (1.0, 0.75, 0.5)]

    def batch(self, index, rng):
        """Images [N,H,W], labels and masks of the pits of `index`, some of them changed."""
        x, y = self.images[index].astype(np.float32), self.y[index].copy()
        masks = np.zeros(x.shape, np.uint8)
        for row, j in enumerate(index):
            self._mark(masks[row], j)
            change = rng.random()
            if self.place[j, 0] >= 0 and change < SWAP:
                y[row] = self._swap(x[row], masks[row], j, rng)
            elif self.place[j, 0] >= 0 and change < SWAP + PLANT:
                y[row] = self._plant(x[row], masks[row], rng)
        return x.clip(0, 255).round().astype(np.uint8), y, masks

    def _swap(self, image, marks, j, rng):
        for i in rng.choice(self.rig, 6):
            half = int(rng.integers(13, 20))
            centre = (self.place[i] if rng.random() < 0.5 else self.place[j]) + rng.integers(-4, 5, 2)
            label = self._label(i, j, centre, half)
            if label is not None:
                mask = _mask(image.shape, centre, half)
                image += mask * (self.images[i] - image)
                fresh = np.zeros_like(marks)
                self._mark(fresh, i)
                marks[:] = np.where(mask > 0, fresh, marks)
                return label
        return self.y[j]

    def _plant(self, image, marks, rng):
        patches = self.dark[rng.integers(len(self.dark))]
        dark = patches[rng.integers(len(patches))]
        if rng.random() < 0.5:
            dark = dark[:, ::-1]
        half = dark.shape[0] // 2
        x, y = rng.integers(24, 104, 2)
        image[y - half : y + half + 1, x - half : x + half + 1] += dark * rng.uniform(0.35, 1.3)
        marks[y - 3 : y + 4, x - 3 : x + 4] = 255
        return 1

    def _mark(self, marks, i):
        """A small square where the pit of image `i` is, if it has one and the place is known."""
        if self.y[i] and self.place[i, 0] >= 0:
            x, y = self.place[i]
            marks[y - 3 : y + 4, x - 3 : x + 4] = 255

    def _label(self, i, j, centre, half):
        """1 or 0 where it is certain whether a pit is left, else None."""
        away_i, away_j = (np.abs(self.place[k] - centre).max() for k in (i, j))
        brought, kept = self.y[i] and away_i <= half - SIZE, self.y[j] and away_j >= half + SIZE
        if brought or kept:
            return 1
        gone = not self.y[j] or away_j <= half - SIZE
        return 0 if gone and (not self.y[i] or away_i >= half + SIZE) else None


def _shrink(dark, factor):
    """The patch made smaller, in a frame of an odd size."""
    small = zoom(dark, factor, order=1)
    return small[: len(small) - 1 + len(small) % 2, : len(small) - 1 + len(small) % 2]


def _mask(shape, centre, half):
    """1 inside the square, falling to 0 over a few pixels at its edge."""
    axes = [np.clip((half - np.abs(np.arange(n) - c)) / FEATHER, 0, 1) for n, c in zip(shape, centre[::-1])]
    return np.outer(*axes)
