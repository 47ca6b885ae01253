//! Which of several regions of a picture is decided on: each is looked at by the experts that are here, and the one that looks
//! least like a part to accept goes the whole way.

use std::time::{Duration, Instant};

use millgate_shared::deciding::{Mode, Policy};
use millgate_shared::decision::Missing;
use millgate_shared::driver::{Ask, Driver, DriverError};
use millgate_shared::gate::{Place, tier_places};
use millgate_shared::local::{Local, to_the_end};
use millgate_shared::runner::{RunError, Runner};
use millgate_shared::sample::View;

/// One look is cut short by nothing but its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives the region to decide on, and how many were not looked at by `until`: of equals the first; a region that cannot be looked at goes before all, so that the decision
/// says why. `None` only of none.
pub(super) fn most_suspicious(
    runner: &mut Runner,
    task: &str,
    policy: &Policy,
    views: Vec<View>,
    until: Instant,
    is_cancelled: &dyn Fn() -> bool,
) -> Option<(View, usize)> {
    let count = views.len();
    let is_one = views.len() == 1;
    let mut most: Option<(f64, View)> = None;
    for (at, view) in views.into_iter().enumerate() {
        if is_one {
            return Some((view, 0));
        }
        // Nobody waits for the answer any more, or it would come too late.
        if is_cancelled() || (at > 0 && Instant::now() >= until) {
            let most = most.map(|(_, view)| view).or(Some(view));
            return most.map(|view| (view, count - at));
        }
        let suspicion = match look(runner, task, policy, &view) {
            Ok(suspicion) => suspicion,
            Err(error) => {
                tracing::debug!(%error, region = ?view.region, "a region could not be looked at");
                f64::INFINITY
            }
        };
        if most.as_ref().is_none_or(|(known, _)| suspicion > *known) {
            most = Some((suspicion, view));
        }
    }
    most.map(|(_, view)| (view, 0))
}

/// A whole decision without the pool, of which only the suspicion is kept.
fn look(runner: &mut Runner, task: &str, policy: &Policy, view: &View) -> Result<f64, DriverError<RunError>> {
    let manifest = std::sync::Arc::clone(runner.models().manifest());
    let policy = Policy { mode: Mode::Never, deadline: PATIENCE, ..policy.clone() };
    let recipe = policy.recipe.clone();
    let places = tier_places(&manifest, Place::Absent(Missing::Offline));
    let ask = Ask { task, policy, places, presence: view.sample.presence(), started: Instant::now() };
    let mut local = Local::new(runner, view.sample.clone(), &|| false);
    let closed = to_the_end(async {
        let mut driver = Driver::begin(&manifest, &mut local, ask).await?;
        driver.run(&mut local).await;
        Ok::<_, DriverError<RunError>>(driver.close()?)
    })?;
    Ok(closed.outcome.suspicion(&manifest, &manifest.tasks[closed.task], recipe.as_deref()))
}
