//! How much memory a run takes, by the size of its inputs: learned when a model is loaded, so that inputs larger than any
//! that were tried can be refused before they run. Pure, but for the runs that teach it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::array::Array;
use millgate_shared::engine::{EngineError, Model, Session};

use super::trial::guard::Guard;
use super::trial::{Fit, Sample};

/// Less is lost in what a process takes anyway.
const NOISE: u64 = 8 << 20;
/// Free axes are made so many times longer from one run to the next.
const GROWTH: usize = 2;
/// No larger inputs are tried once the inputs have so many bytes, a run takes so much memory, or the next one should take so
/// much, or a run takes so long, or all of them so long.
const ENOUGH_INPUT: u64 = 1 << 20;
const MOST_INPUT: u64 = 16 << 20;
const ENOUGH_MEMORY: u64 = 64 << 20;
const MOST_MEMORY: u64 = 256 << 20;
const ENOUGH_TIME: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_millis(300);
/// That there was not enough memory for an input is believed for so long: others may have had it just then.
const BELIEVED: Duration = Duration::from_secs(60);
/// Memory is thought to grow no faster than with this power of the input's size.
const STEEPEST: f64 = 2.0;

/// One run, in bytes: its inputs, these and its outputs together, and the most memory that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    input: u64,
    passed: u64,
    taken: u64,
}

/// What a model's runs take. Nothing is known of one that was never tried.
#[derive(Debug, Default)]
pub(crate) struct Appetite {
    /// By input, ascending.
    points: Vec<Point>,
    /// Bytes of the largest input that went well.
    well: AtomicU64,
    /// Bytes of the smallest input for which there was lately not enough memory, and when that was.
    too_much: Mutex<Option<(u64, Instant)>>,
}

/// How engines say that an allocation failed.
const NO_MEMORY: [&str; 4] =
    ["bad_alloc", "Failed to allocate memory", "bad allocation", "failed to allocate Layout"];

/// Whether an engine says that there was not enough memory.
pub(crate) fn is_lack_of_memory(text: &str) -> bool {
    NO_MEMORY.iter().any(|said| text.contains(said))
}

/// Bytes of arrays.
pub(crate) fn size(arrays: &[Array]) -> u64 {
    arrays.iter().map(|array| array.values().size() as u64).sum()
}

impl Appetite {
    /// Runs a model with inputs that grow, where its axes leave that open. `fit`: inputs that it takes; `limit`: how long all
    /// of it may take, where runs can be ended.
    pub(crate) fn learn(model: &Arc<dyn Model>, fit: Option<&Fit>, limit: Duration) -> Self {
        let mut appetite = Self::default();
        let Some(fit) = fit else { return appetite };
        let Ok(mut session) = Arc::clone(model).session() else { return appetite };
        let _guard = Guard::start(session.ender(), limit);
        let (started, mut baseline) = (Instant::now(), None);
        for inputs in grown(fit, model) {
            let began = Instant::now();
            let input = size(&inputs);
            if appetite.expected(input) > MOST_MEMORY {
                break;
            }
            // One that fails says that larger ones will.
            let Ok((passed, taken)) = taken(session.as_mut(), inputs, &mut baseline) else { break };
            appetite.observe(Point { input, passed, taken });
            let is_enough = input >= ENOUGH_INPUT || taken >= ENOUGH_MEMORY || began.elapsed() >= ENOUGH_TIME;
            if is_enough || started.elapsed() >= PATIENCE {
                break;
            }
        }
        appetite
    }

    fn observe(&mut self, point: Point) {
        if self.points.last().is_none_or(|last| last.input < point.input) {
            let least = self.points.last().map_or(0, |last| last.taken);
            self.points.push(Point { taken: point.taken.max(least), ..point });
        }
        self.well.fetch_max(point.input, Ordering::Relaxed);
    }

    /// Notes that a run went well, or that there was not enough memory for it: small inputs are not to blame for that.
    pub(crate) fn ran(&self, now: Instant, input: u64, is_well: bool) {
        if is_well {
            self.well.fetch_max(input, Ordering::Relaxed);
        } else if input >= ENOUGH_INPUT && self.too_much(now).is_none_or(|known| input < known) {
            *self.too_much.lock().unwrap_or_else(PoisonError::into_inner) = Some((input, now));
        }
    }

    /// Bytes of the smallest input for which there was lately not enough memory.
    fn too_much(&self, now: Instant) -> Option<u64> {
        let (input, at) = (*self.too_much.lock().unwrap_or_else(PoisonError::into_inner))?;
        (now.saturating_duration_since(at) < BELIEVED).then_some(input)
    }

    /// Bytes that a run with so many bytes of inputs should take: more than the largest run by what the last step has shown, or
    /// by what goes in and comes out where that step shows nothing; faster only where all steps show that.
    pub(crate) fn expected(&self, input: u64) -> u64 {
        let Some(last) = self.points.last() else { return 0 };
        if input <= last.input {
            let above = self.points.iter().find(|point| point.input >= input);
            return above.map_or(last.taken, |point| point.taken);
        }
        let power = self.power();
        if power > 1.0 {
            let ratio = input as f64 / last.input.max(1) as f64;
            return (last.taken as f64 * ratio.powf(power)) as u64;
        }
        let passed = last.passed as f64 / last.input.max(1) as f64;
        let slope = match self.points.as_slice() {
            [.., before, last] if last.taken - before.taken >= NOISE => {
                (last.taken - before.taken) as f64 / (last.input - before.input) as f64
            }
            _ => 0.0,
        };
        last.taken.saturating_add(((input - last.input) as f64 * slope.max(passed)) as u64)
    }

    /// Why a run with so many bytes of inputs should not be begun where there are `most` bytes for it, as how much it would
    /// take. Whatever has been run before may be run again.
    pub(crate) fn refuses(&self, now: Instant, input: u64, most: u64) -> Option<u64> {
        if input <= self.well.load(Ordering::Relaxed) {
            return None;
        }
        let expected = self.expected(input);
        if self.too_much(now).is_some_and(|too_much| input >= too_much) {
            return Some(expected.max(most));
        }
        (expected > most).then_some(expected)
    }

    fn power(&self) -> f64 {
        let large = self.points.iter().filter(|point| point.taken > NOISE);
        let large: Vec<&Point> = large.collect();
        let power = |pair: &[&Point]| {
            let ratio = |of: fn(&Point) -> u64| of(pair[1]) as f64 / of(pair[0]).max(1) as f64;
            ratio(|point| point.taken).ln() / ratio(|point| point.input).ln()
        };
        let powers = large.windows(2).map(power);
        // One pair may be chance.
        if large.len() < 3 { 1.0 } else { powers.fold(STEEPEST, f64::min).max(1.0) }
    }
}

/// Inputs that fit, one row and then more, and then with longer axes; as far as they can be made.
fn grown<'a>(fit: &'a Fit, model: &'a Arc<dyn Model>) -> impl Iterator<Item = Vec<Array>> + 'a {
    let signature = model.signature();
    let mut largest = None;
    let first = [fit.clone()].into_iter();
    let longer = match fit {
        Fit::Given(_) => None,
        Fit::Made { guess, length } => {
            let lengths = std::iter::successors(Some((*length).max(1)), |at| at.checked_mul(GROWTH));
            Some(lengths.skip(1).map(|length| Fit::Made { guess: *guess, length }))
        }
    };
    first.chain(longer.into_iter().flatten()).map_while(move |fit| {
        let inputs = fit.inputs(Sample::Rows(1), signature).ok().flatten()?;
        let bytes = size(&inputs);
        // Axes that are all fixed grow no more; what is far too much is not even made.
        let is_larger = largest.replace(bytes).is_none_or(|largest| bytes > largest);
        (is_larger && bytes <= MOST_INPUT).then_some(inputs)
    })
}

/// What goes in and comes out, and the memory that the run takes, as the process that runs it saw it; no less than that.
fn taken(
    session: &mut dyn Session,
    inputs: Vec<Array>,
    baseline: &mut Option<u64>,
) -> Result<(u64, u64), EngineError> {
    let input = size(&inputs);
    let (outputs, took) = session.run_measured(inputs)?;
    let seen = took.map_or(0, |took| took.peak.saturating_sub(*baseline.get_or_insert(took.before)));
    let passed = input + size(&outputs);
    Ok((passed, seen.max(passed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn now() -> Instant {
        Instant::now()
    }

    /// Made of (input, taken); as much comes out as goes in.
    fn of(points: &[(u64, u64)]) -> Appetite {
        let mut appetite = Appetite::default();
        for (input, taken) in points.iter().copied() {
            appetite.observe(Point { input, passed: 2 * input, taken });
        }
        appetite
    }

    #[test]
    fn what_grows_in_proportion_is_told_ahead() {
        // A convolution from 1 channel to 64, in a process that takes 3 MiB anyway.
        let appetite = of(&[(4, 3 * MIB), (64 << 10, 7 * MIB), (MIB, 67 * MIB)]);
        assert_eq!([4, 5, MIB].map(|input| appetite.expected(input)), [3 * MIB, 7 * MIB, 67 * MIB]);
        assert_eq!(appetite.expected(61 * MIB), 67 * MIB + 60 * 64 * MIB);
        assert_eq!(appetite.refuses(now(), 61 * MIB, 2 << 30), Some(67 * MIB + 60 * 64 * MIB));
        assert_eq!(appetite.refuses(now(), 20 * MIB, 2 << 30), None);
    }

    #[test]
    fn what_a_process_takes_anyway_is_not_multiplied() {
        // 20 MiB for the first run of 16 KiB, and none for the next.
        assert_eq!(of(&[(16 << 10, 20 * MIB)]).expected(MIB), 20 * MIB + 2 * (MIB - (16 << 10)));
        assert_eq!(
            of(&[(1 << 10, 20 * MIB), (16 << 10, 21 * MIB)]).refuses(now(), 100 * MIB, 300 * MIB),
            None
        );
    }

    #[test]
    fn only_what_every_step_shows_is_taken_for_more_than_proportion() {
        let square = of(&[(MIB / 4, 16 * MIB), (MIB / 2, 64 * MIB), (MIB, 256 * MIB)]);
        assert_eq!(square.expected(2 * MIB), 1024 * MIB);
        let chance = of(&[(MIB / 4, 16 * MIB), (MIB / 2, 64 * MIB), (MIB, 74 * MIB)]);
        assert_eq!(chance.expected(2 * MIB), 94 * MIB);
    }

    #[test]
    fn what_went_well_may_be_run_again_and_what_was_too_much_may_not() {
        let appetite = of(&[(4, 0), (MIB, 64 * MIB)]);
        assert!(appetite.refuses(now(), 10 * MIB, 500 * MIB).is_some_and(|expected| expected > 600 * MIB));
        appetite.ran(now(), 10 * MIB, true);
        assert_eq!(appetite.refuses(now(), 10 * MIB, 500 * MIB), None, "the estimate was too high");
        appetite.ran(now(), 12 * MIB, false);
        assert_eq!(appetite.refuses(now(), 11 * MIB, 2000 * MIB), None);
        assert_eq!(
            appetite.refuses(now(), 12 * MIB, 2000 * MIB),
            Some(2000 * MIB),
            "it was not enough for that"
        );
        let later = now() + BELIEVED;
        assert_eq!(appetite.refuses(later, 12 * MIB, 2000 * MIB), None, "others may have had it just then");
        // Of a model that was never tried nothing is known but this, and small inputs are not to blame.
        let unknown = Appetite::default();
        assert_eq!((unknown.expected(MIB), unknown.refuses(now(), u64::MAX, 0)), (0, None));
        unknown.ran(now(), MIB / 2, false);
        assert_eq!(unknown.refuses(now(), MIB, MIB), None);
        unknown.ran(now(), MIB, false);
        assert_eq!(unknown.refuses(now(), MIB, MIB), Some(MIB));
    }
}
