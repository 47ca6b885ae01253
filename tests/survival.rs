//! What a bad line, kills, full disks and damage leave of samples and their decisions: everything.
//!
//! Both schedules are real processes in real time. `MILLGATE_FAULTS=1h` sets the long one's length (`off` leaves it out),
//! `MILLGATE_FAULTS_SEED` replays either, `MILLGATE_FAULTS_KEEP=1` keeps its files, `MILLGATE_FAULTS_ONLY=journal,silent`
//! has these kinds of faults alone.

use std::collections::BTreeMap;
use std::time::Duration;

use system_tests::faults::check::Rules;
use system_tests::faults::plan::Kinds;
use system_tests::faults::run::Schedule;

const RULES: Rules = Rules {
    deadline: Duration::from_secs(1),
    stall: Duration::ZERO,
    amended: true,
    exactly_once: true,
    damaged: Vec::new(),
    delayed: BTreeMap::new(),
};

fn seed() -> u64 {
    match std::env::var("MILLGATE_FAULTS_SEED") {
        Ok(text) => text.parse().expect("MILLGATE_FAULTS_SEED is a number"),
        Err(_) => fastrand::u64(..),
    }
}

fn run(length: Duration, pause: Duration) {
    let seed = seed();
    let kinds = match std::env::var("MILLGATE_FAULTS_ONLY") {
        Ok(names) => Kinds::named(&names).expect("MILLGATE_FAULTS_ONLY is a list of kinds"),
        Err(_) => Kinds::default(),
    };
    let outcome = Schedule { seed, length, pause, kinds, rules: RULES, is_secure: true }.run().unwrap();
    outcome.print().unwrap();
    assert!(outcome.is_good(), "seed {seed}: see above");
}

#[test]
fn half_a_minute_of_faults_loses_nothing() {
    run(Duration::from_secs(30), Duration::from_millis(150));
}

#[test]
fn ten_minutes_of_faults_lose_nothing() {
    let length = match std::env::var("MILLGATE_FAULTS").as_deref() {
        Ok("off") => return,
        Ok(text) => {
            humantime::parse_duration(text).expect("MILLGATE_FAULTS is a duration such as 1h, or off")
        }
        Err(_) => Duration::from_secs(600),
    };
    run(length, Duration::from_millis(250));
}
