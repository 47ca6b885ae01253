//! A strict reader of OpenMetrics text: a page that it takes, others take too.

use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeSet<(String, String)>;

#[derive(Debug)]
pub(super) struct Page {
    /// Type by family.
    families: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Page {
    pub(super) fn parse(text: &str) -> Self {
        let mut page = Self { families: BTreeMap::new(), samples: BTreeMap::new() };
        let body = text.strip_suffix("# EOF\n").expect("the page ends with EOF");
        let mut current = String::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (kind, family, rest) = (words.next(), words.next().unwrap(), words.next().unwrap());
                match kind.unwrap() {
                    "HELP" => assert!(!rest.is_empty() && !page.families.contains_key(family), "{line}"),
                    "TYPE" => {
                        let known = ["counter", "gauge", "histogram", "info", "unknown"];
                        assert!(known.contains(&rest), "{line}");
                        let before = page.families.insert(family.to_owned(), rest.to_owned());
                        assert!(before.is_none(), "{family} stands twice");
                        family.clone_into(&mut current);
                    }
                    _ => panic!("{line}"),
                }
            } else {
                page.sample(line, &current);
            }
        }
        page.check_histograms();
        page
    }

    /// A sample must belong to the family that was opened last.
    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("a closed brace"))),
            None => (series, Labels::new()),
        };
        let suffixes: &[&str] = match self.families.get(family).map(String::as_str) {
            Some("counter") => &["_total"],
            Some("info") => &["_info"],
            Some("histogram") => &["_bucket", "_sum", "_count"],
            Some("gauge" | "unknown") => &[""],
            other => panic!("{line}: {other:?}"),
        };
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        assert!(suffixes.contains(&suffix), "{line}: a sample of {family} cannot be called so");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(!(value < 0.0 && suffix == "_total"), "{line}");
        let before = self.samples.insert((name.to_owned(), labels), value);
        assert!(before.is_none(), "{line} stands twice");
    }

    /// Buckets never fall, and the last one holds all.
    fn check_histograms(&self) {
        for family in self.families.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut by_series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((name, labels), value) in &self.samples {
                if *name == format!("{family}_bucket") {
                    let (le, rest): (Labels, Labels) =
                        labels.iter().cloned().partition(|(name, _)| name == "le");
                    let bound = le.first().expect("a bound").1.parse().expect("a number");
                    by_series.entry(rest).or_default().push((bound, *value));
                }
            }
            for (labels, mut buckets) in by_series {
                buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
                assert!(buckets.is_sorted_by(|(_, a), (_, b)| a <= b), "{family} {labels:?}");
                let (bound, all) = buckets.last().copied().expect("a bucket");
                assert_eq!((bound, all), (f64::INFINITY, self.samples[&(format!("{family}_count"), labels)]));
            }
        }
    }

    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let series = (name.to_owned(), labels.iter().map(own).collect());
        *self.samples.get(&series).unwrap_or_else(|| panic!("{series:?} is not on the page"))
    }

    pub(super) fn names_model(&self, model: &str) -> bool {
        let of_model = ("model".to_owned(), model.to_owned());
        self.samples.keys().any(|(_, labels)| labels.contains(&of_model))
    }

    pub(super) fn families(&self) -> impl Iterator<Item = &str> {
        self.families.keys().map(String::as_str)
    }
}

/// Values here hold neither quotes nor commas.
fn labels(text: &str) -> Labels {
    let label = |pair: &str| {
        let (name, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{pair}"));
        (name.to_owned(), value.strip_suffix('"').unwrap_or_else(|| panic!("{pair}")).to_owned())
    };
    text.split(',').map(label).collect()
}
