//! Samples split by group, and every label over all parts as evenly as the groups allow.

use std::collections::BTreeMap;

use super::Labelled;

/// Samples of one group: places, and how many there are of each label.
struct Group {
    at: Vec<usize>,
    labels: BTreeMap<usize, usize>,
}

impl Labelled {
    /// The fold of each sample, from 0 to `count` − 1. Samples of one group are in one fold; each group, the largest first,
    /// goes where its labels are rarest. The same data and seed give the same folds.
    pub fn folds(&self, count: usize, seed: u64) -> Vec<usize> {
        let mut fold = vec![0; self.items.len()];
        let count = count.max(1);
        let labels = self.counts().len();
        let (mut of_label, mut sizes) = (vec![vec![0; labels]; count], vec![0; count]);
        for group in self.groups(seed) {
            let crowded = |fold: &usize| {
                let of_labels =
                    group.labels.iter().map(|(label, own)| of_label[*fold][*label] * own).sum::<usize>();
                (of_labels, sizes[*fold], *fold)
            };
            let chosen = (0..count).min_by_key(crowded).unwrap_or(0);
            for (label, own) in &group.labels {
                of_label[chosen][*label] += own;
            }
            sizes[chosen] += group.at.len();
            group.at.iter().for_each(|at| fold[*at] = chosen);
        }
        fold
    }

    /// The samples in two parts: about so large a share of each label, and at least one of it if there are two groups, is
    /// held out. `(kept, held out)`, each in the order of the data.
    pub fn holdout(&self, share: f64, seed: u64) -> (Self, Self) {
        let wanted: Vec<f64> = self
            .counts()
            .values()
            .map(|count| (share * *count as f64).max(1.0).min(*count as f64 - 1.0))
            .collect();
        let mut held: Vec<f64> = vec![0.0; wanted.len()];
        let mut is_held = vec![false; self.items.len()];
        for group in self.groups(seed) {
            let change = |(label, own): (&usize, &usize)| {
                let (held, wanted) = (held[*label], wanted[*label]);
                (held + *own as f64 - wanted).abs() - (held - wanted).abs()
            };
            if group.labels.iter().map(change).sum::<f64>() < 0.0 {
                group.labels.iter().for_each(|(label, own)| held[*label] += *own as f64);
                group.at.iter().for_each(|at| is_held[*at] = true);
            }
        }
        let (held, kept): (Vec<usize>, Vec<usize>) = (0..is_held.len()).partition(|at| is_held[*at]);
        (self.subset(kept), self.subset(held))
    }

    /// Groups, the largest first, those of one size in an order that the seed gives.
    fn groups(&self, seed: u64) -> Vec<Group> {
        let labels: Vec<&str> = self.counts().into_keys().collect();
        let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
        for (at, item) in self.items.iter().enumerate() {
            let label = labels.partition_point(|label| *label < item.label.as_str());
            let group = groups
                .entry(&item.group)
                .or_insert_with(|| Group { at: Vec::new(), labels: BTreeMap::new() });
            group.at.push(at);
            *group.labels.entry(label).or_insert(0) += 1;
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut groups);
        groups.sort_by_key(|group| std::cmp::Reverse(group.at.len()));
        groups
    }
}
