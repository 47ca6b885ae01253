//! How good it is on real data: run by hand, `--ignored`, with `MILLGATE_MEASURE` naming a folder that holds `<set>/data.csv`
//! (columns `image`, `label`, `group`, `split`, and `template` where there is one) and `MILLGATE_BACKBONE` a backbone.

use std::path::PathBuf;

use super::classes::{classes, features, has_template, labels};
use super::fitting::{Features, Kind, Known, best, tried};
use super::measures::{highest, macro_f1};
use super::*;
use crate::data::{Asked, Naming};
use crate::linear::Rows;
use crate::progress::Silent;

const DRAWS: u64 = 3;

fn given(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set")).into()
}

fn read(set: &str) -> Labelled {
    let naming = Naming::of_pictures("image", &["template"]);
    let asked = Asked { naming: &naming, product: None, least_of_a_class: 1 };
    Labelled::read(&given("MILLGATE_MEASURE").join(set).join("data.csv"), &asked).unwrap()
}

fn chosen(features: &Features, at: &[usize]) -> Features {
    Features { size: features.size, rows: features.rows.iter().map(|rows| rows.chosen(at)).collect() }
}

/// So many pictures of each class, drawn; all of a class that has fewer.
fn drawn(data: &Labelled, count: usize, seed: u64) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut at = Vec::new();
    for label in data.counts().keys() {
        let mut of: Vec<usize> = (0..data.items.len()).filter(|at| data.items[*at].label == *label).collect();
        random.shuffle(&mut of);
        at.extend(of.into_iter().take(count));
    }
    at.sort_unstable();
    at
}

struct Sets {
    train: Labelled,
    test: Labelled,
    /// Features of training and of test pictures, by size.
    features: (Vec<Features>, Vec<Features>),
}

impl Sets {
    fn of(set: &str, backbone: &Backbone) -> Self {
        let all = read(set);
        let (train, test) = (all.of_splits(&["train", "val"]), all.of_splits(&["test"]));
        let with_template = has_template(&train).unwrap();
        let of = |data: &Labelled| features(data, backbone, &SIZES, with_template, &Silent).unwrap();
        let features = (of(&train), of(&test));
        Self { train, test, features }
    }

    /// Macro-F1 on test pictures with so many of each class: as `init` would choose, and of each size and head.
    fn reached(&self, count: usize, seed: u64) -> (f64, Vec<(String, f64)>) {
        let names = labels(&self.train);
        let at = drawn(&self.train, count, seed);
        let data = self.train.subset(at.iter().copied());
        let known_classes = classes(&data, &names);
        let folds = 5;
        let fold_of = data.folds(folds, seed);
        let known = Known { classes: &known_classes, fold_of: &fold_of, folds, count: names.len() };
        let sized: Vec<Features> = self.features.0.iter().map(|features| chosen(features, &at)).collect();
        let with_template = has_template(&self.train).unwrap();
        let kinds: &[Kind] = if with_template { &[Kind::Discriminant] } else { &Kind::ALL };
        let all = tried(&sized, kinds, &known, &Silent).unwrap();
        let best = best(&all).unwrap();
        let truth = classes(&self.test, &names);
        let every: Vec<usize> = (0..at.len()).collect();
        let of = |size: usize, kind: Kind| {
            let place = sized.iter().position(|features| features.size == size).unwrap();
            let head = sized[place].fit(kind, &known, &every).unwrap();
            let rows: &Rows = &self.features.1[place].rows[0];
            let found: Vec<usize> = rows.iter().map(|row| highest(&head.logits(row))).collect();
            macro_f1(&truth, &found, names.len())
        };
        let each = all
            .iter()
            .map(|tried| (format!("{} {}", tried.size, tried.kind.as_str()), of(tried.size, tried.kind)));
        (of(best.size, best.kind), each.collect())
    }
}

fn spread(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let deviation =
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    format!("{mean:.3} +- {deviation:.3}")
}

#[test]
#[ignore = "takes data sets and minutes"]
fn classes_by_number_of_pictures() {
    let backbone = Backbone::read(&given("MILLGATE_BACKBONE")).unwrap();
    let sets = std::env::var("MILLGATE_SETS").unwrap_or_else(|_| "xsdd,bsdata,deeppcb,magtile".to_owned());
    for set in sets.split(',') {
        for backbone in [backbone.clone(), backbone.shuffled(1)] {
            let sets = Sets::of(set, &backbone);
            for count in [5, 10, 20, 50, usize::MAX] {
                let draws = if count == usize::MAX { 1 } else { DRAWS };
                let reached: Vec<_> = (0..draws).map(|seed| sets.reached(count, seed)).collect();
                let chosen: Vec<f64> = reached.iter().map(|(chosen, _)| *chosen).collect();
                let mut line = format!("{set} {} {count}: chosen {}", backbone.name, spread(&chosen));
                for (at, (name, _)) in reached[0].1.iter().enumerate() {
                    let of: Vec<f64> = reached.iter().map(|(_, each)| each[at].1).collect();
                    line += &format!("; {name} {}", spread(&of));
                }
                tell(&line);
            }
        }
    }
}

#[test]
#[ignore = "takes data sets and minutes"]
fn good_pictures_alone() {
    let backbone = Backbone::read(&given("MILLGATE_BACKBONE")).unwrap();
    for (set, good) in
        [("magtile", "magtile/Free"), ("bsdata", "bsdata/clean"), ("deeppcb", "deeppcb/normal")]
    {
        let all = read(set);
        let is_good = |good: &str, split: &[&str], is: bool| {
            let of = all.of_splits(split);
            let at: Vec<usize> =
                (0..of.items.len()).filter(|at| (of.items[*at].label == good) == is).collect();
            of.subset(at)
        };
        let learned = is_good(good, &["train", "val"], true);
        let (test_good, test_bad) = (is_good(good, &["test"], true), is_good(good, &["test"], false));
        let with_template = has_template(&learned).unwrap();
        for size in if with_template { &[64][..] } else { &[64, 96, 128][..] } {
            let sized = Sized::new(&backbone, *size).unwrap();
            let given = good::Given {
                good: &learned,
                defects: Some(&test_bad),
                with_template,
                false_alarms: 0.02,
                seed: 1,
            };
            tell(&format!("{set} {size}: {}", good::judged(&given, &sized, &test_good)));
        }
    }
}

#[test]
#[ignore = "takes data sets and minutes"]
fn from_a_folder_to_a_bundle() {
    let backbone = Backbone::read(&given("MILLGATE_BACKBONE")).unwrap();
    let all = read("xsdd").of_splits(&["train"]);
    let few: Vec<String> = labels(&all).into_iter().take(3).collect();
    let at: Vec<usize> = (0..all.items.len()).filter(|at| few.contains(&all.items[*at].label)).collect();
    let of_three = all.subset(at);
    let of_forty = of_three.subset(drawn(&of_three, 40, 1));
    let from = From::Classes { data: &of_forty, good: &[] };
    let request = Request { product: "xsdd", backbone: &backbone, size: None, seed: 1, from };
    let out = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let made = make(&request, &out.path().join("bundle"), &Silent).unwrap();
    let bundle = made.draft.write(&out.path().join("bundle")).unwrap();
    tell(&format!(
        "{} pictures, {:.1} s\n{}",
        of_forty.items.len(),
        started.elapsed().as_secs_f64(),
        made.report.text()
    ));
    tell(&format!("{}", bundle.manifest().experts.len()));
}

fn tell(line: &str) {
    eprintln!("{line}");
}
