use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn session() -> (Session, Instant) {
    (Session::new(breaker::Config::default()), Instant::now())
}

fn up() -> (Session, Instant) {
    let (mut session, now) = session();
    assert!(session.may_dial(now));
    session.dialled();
    (session, now)
}

#[test]
fn calls_before_the_first_dial_wait_for_it() {
    let (mut session, now) = session();
    assert_eq!(session.admit(now + MS * 100), Admission::Queue(1));
    assert_eq!(session.admit(now + MS * 100), Admission::Queue(2));
    assert_eq!(session.dialled(), [1, 2]);
    assert_eq!(session.admit(now + MS * 100), Admission::Send(3));
}

#[test]
fn a_failed_dial_fails_what_waits_and_then_refuses_at_once() {
    let (mut session, now) = session();
    session.admit(now + MS * 100);
    assert_eq!(session.lost(now), [1]);
    assert_eq!(session.admit(now + MS * 100), Admission::Offline);
    assert!(!session.may_dial(now));
    assert!(session.may_dial(now + breaker::Config::default().pause));
}

#[test]
fn a_line_that_only_lets_deadlines_pass_is_given_up() {
    let (mut session, now) = up();
    session.admit(now + MS * 10);
    session.admit(now + MS * 20);
    assert_eq!(session.next_event(), Some(now + MS * 10));
    assert_eq!(session.expire(now + MS * 9), (vec![], false));
    assert_eq!(session.expire(now + MS * 10), (vec![1], false));
    assert_eq!(session.expire(now + MS * 20), (vec![2], true));
}

#[test]
fn an_answer_between_two_late_ones_keeps_the_line() {
    let (mut session, now) = up();
    for _ in 0..3 {
        session.admit(now + MS);
    }
    session.expire(now);
    assert!(session.answered(2));
    assert_eq!(session.expire(now + MS), (vec![1, 3], true));
    let (mut session, now) = up();
    session.admit(now + MS);
    assert_eq!(session.expire(now + MS), (vec![1], false));
    session.admit(now + MS * 2);
    assert!(session.answered(2));
    session.admit(now + MS * 3);
    assert_eq!(session.expire(now + MS * 3), (vec![3], false));
}

#[test]
fn an_answer_that_comes_too_late_finds_nobody() {
    let (mut session, now) = up();
    session.admit(now + MS);
    session.expire(now + MS);
    assert!(!session.answered(1));
}

#[test]
fn the_calls_in_flight_are_bounded() {
    let (mut session, now) = up();
    for _ in 0..MAX_IN_FLIGHT {
        assert!(matches!(session.admit(now + MS), Admission::Send(_)));
    }
    assert_eq!(session.admit(now + MS), Admission::Shed);
    session.cancelled(1);
    assert!(matches!(session.admit(now + MS), Admission::Send(_)));
}

#[test]
fn down_keeps_the_time_at_which_it_began() {
    let (mut session, now) = up();
    session.lost(now);
    session.lost(now + MS * 500);
    assert_eq!(session.link(), LinkState::Down { since: now });
}
