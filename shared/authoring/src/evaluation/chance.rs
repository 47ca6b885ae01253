//! What is chance in the numbers of an evaluation: intervals by drawing groups anew, and whether two bundles differ.

use std::collections::BTreeMap;

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

/// Times that the groups are drawn anew.
const DRAWS: usize = 1000;
/// Share of draws beyond an interval, on either side.
const BEYOND: f64 = 0.025;
/// Where chance begins: the same samples and verdicts give the same intervals.
const SEED: u64 = 2;

/// Intervals that hold the true number in 95 of 100 cases, if samples of one group stand or fall together (the percentiles of a
/// bootstrap over groups; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Intervals {
    pub groups: usize,
    pub accuracy: [f64; 2],
    pub macro_f1: [f64; 2],
}

/// Intervals of the verdicts of samples, given the group of each, its true class of `classes`, and the one that was found.
pub(super) fn intervals(groups: &[&str], truth: &[usize], found: &[usize], classes: usize) -> Intervals {
    let mut members: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for ((group, truth), found) in groups.iter().zip(truth).zip(found) {
        members.entry(group).or_default().push((*truth, *found));
    }
    let members: Vec<Vec<(usize, usize)>> = members.into_values().collect();
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut accuracies, mut f1s) = (Vec::with_capacity(DRAWS), Vec::with_capacity(DRAWS));
    for _ in 0..DRAWS {
        let drawn = (0..members.len()).flat_map(|_| &members[random.usize(..members.len())]);
        let [accuracy, f1] = measured(drawn, classes);
        accuracies.push(accuracy);
        f1s.push(f1);
    }
    Intervals { groups: members.len(), accuracy: between(accuracies), macro_f1: between(f1s) }
}

/// Accuracy and macro-F1 over the classes that occur.
fn measured<'a>(samples: impl Iterator<Item = &'a (usize, usize)>, classes: usize) -> [f64; 2] {
    let (mut of, mut said, mut both) = (vec![0_u64; classes], vec![0_u64; classes], vec![0_u64; classes]);
    for (truth, found) in samples {
        of[*truth] += 1;
        said[*found] += 1;
        both[*truth] += u64::from(truth == found);
    }
    let f1 = |class: usize| 2.0 * both[class] as f64 / (of[class] + said[class]).max(1) as f64;
    let there: Vec<usize> = (0..classes).filter(|class| of[*class] > 0).collect();
    let macro_f1 = there.iter().map(|class| f1(*class)).sum::<f64>() / there.len().max(1) as f64;
    let right: u64 = both.iter().sum();
    [right as f64 / of.iter().sum::<u64>().max(1) as f64, macro_f1]
}

fn between(mut drawn: Vec<f64>) -> [f64; 2] {
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((share * drawn.len() as f64) as usize).copied().unwrap_or(0.0);
    [at(BEYOND), at(1.0 - BEYOND)]
}

/// McNemar's exact test: the probability that two equally good bundles differ as much or more, given the samples that only one of
/// them decides right (McNemar, "Note on the sampling error of the difference between correlated proportions", 1947).
pub(super) fn mcnemar(gained: usize, lost: usize) -> f64 {
    let (less, all) = (gained.min(lost) as u64, (gained + lost) as u64);
    let fair = Binomial::new(0.5, all).ok();
    fair.map_or(1.0, |fair| (2.0 * fair.cdf(less)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_is_that_of_scipy() {
        // scipy.stats.binomtest(min, all).pvalue
        for (gained, lost, p) in [(0, 0, 1.0), (3, 3, 1.0), (10, 2, 0.038_574_218_75), (0, 8, 0.007_812_5)] {
            assert!((mcnemar(gained, lost) - p).abs() < 1e-12, "{gained} {lost}");
        }
    }

    #[test]
    fn few_groups_make_wide_intervals() {
        let truth: Vec<usize> = (0..200).map(|at| at % 2).collect();
        let found: Vec<usize> = (0..200).map(|at| if at % 10 == 0 { 1 } else { at % 2 }).collect();
        let names: Vec<String> = (0..200).map(|at| at.to_string()).collect();
        let apart: Vec<&str> = names.iter().map(String::as_str).collect();
        let alone = intervals(&apart, &truth, &found, 2);
        assert_eq!(alone.groups, 200);
        assert!(
            alone.accuracy[0] > 0.84 && alone.accuracy[0] < 0.88 && alone.accuracy[1] > 0.92,
            "{alone:?}"
        );
        // Ten groups, one of which has all the errors.
        let tens: Vec<String> = (0..200).map(|at| (at % 10).to_string()).collect();
        let together: Vec<&str> = tens.iter().map(String::as_str).collect();
        let wide = intervals(&together, &truth, &found, 2);
        assert!(wide.groups == 10 && wide.accuracy[0] < 0.78, "{wide:?}");
    }
}
