//! What a bad line, kills, full disks and damage leave of samples and their decisions: everything.
//!
//! Both schedules are real processes in real time. `MILLGATE_FAULTS=1h` sets the long one's length (`off` leaves it out),
//! `MILLGATE_FAULTS_SEED` replays either, `MILLGATE_FAULTS_KEEP=1` keeps its files.

use std::time::Duration;

use system_tests::faults::check::Rules;
use system_tests::faults::run::Schedule;

const RULES: Rules = Rules {
    deadline: Duration::from_secs(1),
    stall: Duration::ZERO,
    amended: true,
    exactly_once: true,
    damaged: Vec::new(),
};

fn seed() -> u64 {
    match std::env::var("MILLGATE_FAULTS_SEED") {
        Ok(text) => text.parse().expect("MILLGATE_FAULTS_SEED is a number"),
        Err(_) => fastrand::u64(..),
    }
}

fn run(length: Duration, pause: Duration) {
    let seed = seed();
    let outcome = Schedule { seed, length, pause, rules: RULES, is_secure: true }.run().unwrap();
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
