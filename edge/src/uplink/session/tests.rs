use std::time::Duration;

use super::*;

mod laws;
mod simulation;

const MS: Duration = Duration::from_millis(1);

fn session(addresses: usize) -> (Session, Instant) {
    let now = Instant::now();
    let config = Config { breaker: breaker::Config::default(), upgrade: true, seed: 7 };
    (Session::new(config, addresses, now), now)
}

/// Each address has a line whose number is 100 times its own.
fn up(addresses: usize) -> (Session, Instant) {
    let (mut session, now) = session(addresses);
    session.tick(now);
    for address in 0..addresses {
        session.dialled(address, new_line(100 * address as u64, true), now);
    }
    actions(&mut session);
    (session, now)
}

fn new_line(line: u64, is_best: bool) -> NewLine {
    NewLine { line, is_best, answered_in: MS * 20 }
}

fn actions(session: &mut Session) -> Vec<Action> {
    std::iter::from_fn(|| session.poll_action()).collect()
}

/// Attempts that went out, with their lines.
fn sent(actions: &[Action]) -> Vec<(u64, u64)> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send { line, attempt, .. } => Some((*line, *attempt)),
        _ => None,
    });
    sent.collect()
}

fn failed(actions: &[Action]) -> Vec<Missing> {
    let failed = actions.iter().filter_map(|action| match action {
        Action::Fail { reason, .. } => Some(*reason),
        _ => None,
    });
    failed.collect()
}

const ANSWER: Replied = Replied::Answer { pool: Duration::ZERO };

/// Ten calls of 20 ms each teach what is usual.
fn taught(session: &mut Session, mut now: Instant) -> Instant {
    for _ in 0..10 {
        session.admit(now + MS * 500, now).unwrap();
        let (line, attempt) = sent(&actions(session))[0];
        now += MS * 20;
        assert!(session.replied(line, attempt, ANSWER, now).is_some());
        actions(session);
    }
    now
}

#[test]
fn calls_before_the_first_dial_wait_for_it() {
    let (mut session, now) = session(1);
    session.tick(now);
    assert_eq!(actions(&mut session), [Action::Dial { address: 0 }]);
    session.admit(now + MS * 100, now).unwrap();
    assert!(sent(&actions(&mut session)).is_empty());
    assert_eq!(session.link(now), LinkState::Unknown);
    session.dialled(0, new_line(1, true), now);
    assert_eq!(sent(&actions(&mut session)).len(), 1);
    assert_eq!(session.link(now), LinkState::Up);
}

#[test]
fn a_failed_first_dial_fails_what_waits_and_then_refuses_at_once() {
    let (mut session, now) = session(1);
    session.tick(now);
    session.admit(now + MS * 100, now).unwrap();
    session.dial_failed(0, now);
    assert_eq!(failed(&actions(&mut session)), [Missing::Offline]);
    assert_eq!(session.admit(now + MS * 100, now), Err(Missing::Offline));
    assert_eq!(session.link(now + MS), LinkState::Down { since: now });
}

#[test]
fn a_call_whose_line_breaks_goes_out_on_the_next() {
    let (mut session, now) = up(1);
    session.admit(now + MS * 900, now).unwrap();
    let (line, first) = sent(&actions(&mut session))[0];
    session.lost(line, now + MS * 10);
    session.tick(now + MS * 10);
    assert_eq!(actions(&mut session), [Action::Dial { address: 0 }]);
    // A new call waits a moment, too.
    session.admit(now + MS * 900, now + MS * 20).unwrap();
    session.dialled(0, new_line(2, true), now + MS * 60);
    let again = sent(&actions(&mut session));
    assert_eq!(again.len(), 2);
    // What the old line may still have said finds nobody.
    assert_eq!(session.replied(line, first, ANSWER, now + MS * 61), None);
    assert!(session.replied(2, again[0].1, ANSWER, now + MS * 70).is_some());
    assert_eq!(session.counts().resent, 0, "it was out nowhere when the new line came");
}

#[test]
fn with_a_second_address_a_broken_line_costs_nothing() {
    let (mut session, now) = up(2);
    session.admit(now + MS * 900, now).unwrap();
    assert_eq!(sent(&actions(&mut session))[0].0, 0);
    session.lost(0, now + MS);
    assert_eq!(sent(&actions(&mut session))[0].0, 100);
    session.admit(now + MS * 900, now + MS * 2).unwrap();
    assert_eq!(sent(&actions(&mut session))[0].0, 100);
}

#[test]
fn a_line_without_a_sign_of_life_is_doubted_and_then_given_up() {
    let (mut session, now) = up(1);
    session.admit(now + MS * 10, now).unwrap();
    session.admit(now + MS * 20, now).unwrap();
    actions(&mut session);
    session.tick(now + MS * 10);
    assert_eq!(failed(&actions(&mut session)), [Missing::Deadline]);
    session.tick(now + MS * 20);
    let done = actions(&mut session);
    assert_eq!(failed(&done), [Missing::Deadline]);
    assert!(done.contains(&Action::Ping { line: 0 }), "{done:?}");
    // The breaker is open: calls cost nothing.
    assert_eq!(session.admit(now + MS * 99, now + MS * 20), Err(Missing::Offline));
    session.tick(now + MS * 220);
    let done = actions(&mut session);
    assert!(done.iter().any(|action| matches!(action, Action::Close { line: 0, .. })), "{done:?}");
    assert!(done.contains(&Action::Dial { address: 0 }), "{done:?}");
}

#[test]
fn a_pool_that_lives_but_is_slow_keeps_its_line_and_gets_few_calls() {
    let (mut session, mut now) = up(1);
    let mut sends = 0;
    for _ in 0..1000 {
        now += MS * 10;
        session.tick(now);
        let pings =
            actions(&mut session).iter().filter(|action| matches!(action, Action::Ping { .. })).count();
        if pings > 0 {
            session.heard(0, now);
        }
        if session.admit(now + MS * 9, now).is_ok() {
            sends += sent(&actions(&mut session)).len();
        }
    }
    // Ten seconds at pauses of 250 ms, twice as long each time, up to 5 s.
    assert!((5..=10).contains(&sends), "{sends}");
    assert_eq!(session.line_of(0), Some(0));
}

#[test]
fn a_late_first_address_is_hedged_and_the_first_answer_counts() {
    let (mut session, now) = up(2);
    let mut now = taught(&mut session, now);
    session.admit(now + MS * 500, now).unwrap();
    let (_, first) = sent(&actions(&mut session))[0];
    assert_eq!(session.next_event(now), Some(now + MS * 20));
    now += MS * 20;
    session.tick(now);
    let (line, second) = sent(&actions(&mut session))[0];
    assert_eq!(line, 100);
    assert!(session.replied(100, second, ANSWER, now + MS * 5).is_some());
    assert!(actions(&mut session).is_empty());
    assert_eq!(session.replied(0, first, ANSWER, now + MS * 6), None);
    assert_eq!((session.counts().hedges, session.counts().hedges_won), (1, 1));
}

#[test]
fn a_hedge_that_is_withheld_leaves_the_first_send_and_a_call_without_one_ends() {
    let (mut session, now) = up(2);
    let mut now = taught(&mut session, now);
    session.admit(now + MS * 500, now).unwrap();
    let (_, first) = sent(&actions(&mut session))[0];
    now += MS * 20;
    session.tick(now);
    let (_, second) = sent(&actions(&mut session))[0];
    session.withheld(second);
    assert!(actions(&mut session).is_empty());
    session.lost(0, now);
    let (_, third) = sent(&actions(&mut session))[0];
    session.withheld(third);
    assert!(matches!(actions(&mut session)[..], [Action::Fail { reason: Missing::Budget, .. }]));
    assert_eq!(session.replied(0, first, ANSWER, now), None);
}

#[test]
fn hedges_are_a_small_share_of_the_calls() {
    let (mut session, now) = up(2);
    let mut now = taught(&mut session, now);
    for _ in 0..1000 {
        session.admit(now + MS * 100, now).unwrap();
        let (line, attempt) = sent(&actions(&mut session))[0];
        now += MS * 30;
        session.tick(now);
        actions(&mut session);
        session.replied(line, attempt, ANSWER, now);
    }
    let most = (1010.0 * HEDGE_SHARE + HEDGE_BURST) as u64;
    assert!((1..=most).contains(&session.counts().hedges), "{:?}", session.counts());
}

#[test]
fn a_full_pool_is_asked_again_when_it_said_so_if_that_fits() {
    let (mut session, now) = up(1);
    session.admit(now + MS * 100, now).unwrap();
    let (line, attempt) = sent(&actions(&mut session))[0];
    let shed = |ms| Replied::Shed { retry_after: Some(MS * ms) };
    session.replied(line, attempt, shed(10), now);
    assert!(actions(&mut session).is_empty());
    let again = session.next_event(now).unwrap();
    assert!((now + MS * 10..=now + MS * 15).contains(&again));
    session.tick(again);
    let (_, attempt) = sent(&actions(&mut session))[0];
    session.replied(line, attempt, shed(200), again);
    assert_eq!(failed(&actions(&mut session)), [Missing::Shed]);
}

#[test]
fn a_full_or_leaving_pool_s_call_goes_elsewhere_at_once() {
    for refusal in [Replied::Shed { retry_after: None }, Replied::Unavailable] {
        let (mut session, now) = up(2);
        session.admit(now + MS * 100, now).unwrap();
        let (line, attempt) = sent(&actions(&mut session))[0];
        session.replied(line, attempt, refusal, now);
        assert_eq!(sent(&actions(&mut session))[0].0, 100);
    }
}

#[test]
fn the_calls_in_flight_are_bounded() {
    let (mut session, now) = up(1);
    for _ in 0..MAX_IN_FLIGHT {
        session.admit(now + MS, now).unwrap();
    }
    assert_eq!(session.admit(now + MS, now), Err(Missing::Shed));
    session.tick(now + MS);
    assert_eq!(failed(&actions(&mut session)).len(), MAX_IN_FLIGHT);
    assert_eq!(session.in_flight(), 0);
}

#[test]
fn a_better_transport_takes_over_without_touching_what_is_out() {
    let (mut session, now) = session(1);
    session.tick(now);
    session.dialled(0, new_line(1, false), now);
    session.admit(now + MS * 60_000, now).unwrap();
    let (_, attempt) = sent(&actions(&mut session))[0];
    let mut at = now;
    loop {
        at = session.next_event(at).unwrap().max(at + MS);
        session.heard(1, at);
        session.tick(at);
        if actions(&mut session).contains(&Action::Upgrade { address: 0 }) {
            break;
        }
    }
    assert_eq!(at, now + MS * 30_000);
    session.dialled(0, new_line(2, true), at);
    assert!(sent(&actions(&mut session)).is_empty());
    assert!(session.replied(1, attempt, ANSWER, at + MS).is_some());
    let done = actions(&mut session);
    assert!(done.iter().any(|action| matches!(action, Action::Close { line: 1, .. })), "{done:?}");
    assert_eq!(session.line_of(0), Some(2));
}

#[test]
fn a_hint_of_the_network_doubts_lines_and_dials_those_that_are_down() {
    let (mut session, now) = up(2);
    session.lost(100, now);
    session.tick(now);
    session.dial_failed(1, now + MS);
    actions(&mut session);
    session.network_changed(now + MS * 2);
    assert_eq!(actions(&mut session), [Action::Ping { line: 0 }, Action::Dial { address: 1 }]);
    // No sign of life: a second line is dialled beside it, and takes over.
    session.tick(now + MS * 202);
    assert!(actions(&mut session).contains(&Action::Dial { address: 0 }));
    session.dialled(0, new_line(5, true), now + MS * 230);
    assert_eq!(session.line_of(0), Some(5));
}

#[test]
fn rounds_come_close_together_at_first_and_a_second_apart_at_last() {
    let (mut session, now) = up(1);
    session.lost(0, now);
    let (mut rounds, mut at) = (Vec::new(), now);
    while at < now + MS * 120_000 {
        session.tick(at);
        if actions(&mut session).contains(&Action::Dial { address: 0 }) {
            rounds.push(at - now);
        }
        session.dial_failed(0, at);
        at = session.next_event(at).unwrap();
    }
    let gap = |at: usize| rounds[at + 1] - rounds[at];
    assert_eq!(gap(0), MS * 50);
    assert_eq!(rounds[rounds.len() - 1] - rounds[rounds.len() - 2], MS * 1000);
    assert!(rounds.len() < 400, "{}", rounds.len());
}

#[test]
fn the_back_log_has_a_line_again_though_no_live_call_comes() {
    let (mut session, now) = up(1);
    let mut now = taught(&mut session, now);
    // Calls that nobody answers, until the breaker is open.
    for _ in 0..20 {
        if session.admit(now + MS * 200, now).is_err() {
            break;
        }
        now += MS * 250;
        session.tick(now);
        actions(&mut session);
    }
    let lost = session.live_line(now);
    session.dialled(0, new_line(7, true), now);
    actions(&mut session);
    // Whatever the breaker thinks of the old line: where the link counts as up, bulk may go.
    for _ in 0..100 {
        now += MS * 100;
        session.tick(now);
        actions(&mut session);
        assert_eq!(session.link(now) == LinkState::Up, session.live_line(now).is_some());
    }
    assert_ne!(lost, Some(7));
    assert_eq!((session.link(now), session.live_line(now)), (LinkState::Up, Some(7)));
}

#[test]
fn a_new_line_is_tried_at_once_though_the_breaker_has_just_opened() {
    let (mut session, now) = up(1);
    let mut now = taught(&mut session, now);
    for _ in 0..2 {
        session.admit(now + MS * 200, now).unwrap();
        now += MS * 200;
        session.tick(now);
    }
    actions(&mut session);
    assert_eq!(session.admit(now + MS * 200, now), Err(Missing::Offline));
    session.dialled(0, new_line(7, true), now);
    session.admit(now + MS * 200, now).unwrap();
    let (line, attempt) = sent(&actions(&mut session))[0];
    assert_eq!(line, 7);
    // One, until it is answered.
    assert_eq!(session.admit(now + MS * 200, now), Err(Missing::Offline));
    assert!(session.replied(7, attempt, ANSWER, now + MS).is_some());
    session.admit(now + MS * 200, now + MS).unwrap();
}

#[test]
fn a_line_with_an_old_certificate_serves_until_the_next_one_works() {
    let (mut session, now) = up(1);
    session.certificate_changed(0, now);
    session.tick(now);
    assert_eq!(actions(&mut session), [Action::Dial { address: 0 }]);
    // The pool does not take it: the old one goes on, and the next try waits.
    session.dial_failed(0, now + MS * 50);
    session.tick(now + MS * 999);
    assert_eq!((actions(&mut session), session.line_of(0)), (vec![], Some(0)));
    assert_eq!(session.next_event(now + MS * 999), Some(now + MS * 1000));
    let now = now + MS * 1000;
    session.tick(now);
    assert_eq!(actions(&mut session), [Action::Dial { address: 0 }]);
    session.admit(now + MS * 500, now).unwrap();
    let (line, attempt) = sent(&actions(&mut session))[0];
    session.dialled(0, new_line(7, false), now);
    assert_eq!((actions(&mut session), session.line_of(0), line), (vec![], Some(7), 0));
    assert!(session.replied(line, attempt, ANSWER, now).is_some());
    assert!(matches!(actions(&mut session)[..], [Action::Close { line: 0, .. }]));
    // It has taken over for good.
    session.tick(now + MS * 2000);
    assert_eq!(actions(&mut session), []);
}

#[test]
fn a_pool_that_never_knows_the_device_is_dialled_ever_less_until_there_is_a_new_certificate() {
    let (mut session, mut now) = up(1);
    let (began, mut line) = (now, 1);
    let mut dials = Vec::new();
    while now < began + Duration::from_secs(200) {
        session.outdated(0, now);
        session.tick(now);
        if actions(&mut session).contains(&Action::Dial { address: 0 }) {
            dials.push((now - began).as_secs());
            session.dialled(0, new_line(line, true), now);
            line += 1;
        }
        now += MS * 100;
    }
    assert_eq!(dials, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    actions(&mut session);
    session.certificate_changed(0, now);
    assert_eq!(actions(&mut session), [Action::Dial { address: 0 }]);
}
