//! Plans of many seeds keep to what the schedule promises.

use super::*;

/// A name, how it is known, and how often it must be there.
type Is = &'static dyn Fn(&Fault) -> bool;
type Kind = (&'static str, Is, usize);

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn plan(seed: u64, length: Duration) -> Plan {
    Plan::new(seed, length, &Kinds::default())
}

#[test]
fn a_seed_and_a_length_give_one_plan() {
    assert_eq!(plan(7, TEN_MINUTES), plan(7, TEN_MINUTES));
    assert_ne!(plan(7, TEN_MINUTES).steps, plan(8, TEN_MINUTES).steps);
}

#[test]
fn ten_minutes_have_every_fault_and_all_of_them_end() {
    for seed in 0..200 {
        let plan = plan(seed, TEN_MINUTES);
        assert!(plan.steps.is_sorted_by_key(|step| step.at), "seed {seed}");
        assert!(plan.steps.iter().all(|step| step.at <= plan.length), "seed {seed}");
        let count = |is: &dyn Fn(&Fault) -> bool| plan.steps.iter().filter(|step| is(&step.what)).count();
        let kinds: [Kind; 26] = [
            ("weather", &|fault| matches!(fault, Fault::Weather(_)), 30),
            ("cut", &|fault| matches!(fault, Fault::Cut), 6),
            ("udp", &|fault| matches!(fault, Fault::BlockUdp(true)), 2),
            ("address", &|fault| matches!(fault, Fault::DropAddress), 2),
            ("ports", &|fault| matches!(fault, Fault::Rebind(Rebind::Ports)), 2),
            ("router", &|fault| matches!(fault, Fault::Rebind(Rebind::Address)), 2),
            ("pool killed", &|fault| matches!(fault, Fault::PoolKill), 2),
            ("pool drained", &|fault| matches!(fault, Fault::PoolDrain), 2),
            ("agent killed", &|fault| matches!(fault, Fault::AgentKill), 6),
            ("killed at a write", &|fault| matches!(fault, Fault::AgentKillAtWrite(_)), 4),
            ("flip", &|fault| matches!(fault, Fault::Flip), 2),
            ("tear", &|fault| matches!(fault, Fault::Tear), 2),
            ("state full", &|fault| matches!(fault, Fault::Fill(Disk::State)), 2),
            ("sink full", &|fault| matches!(fault, Fault::Fill(Disk::Sink)), 2),
            ("refuses", &|fault| matches!(fault, Fault::Receiver(Manners::Refuses)), 2),
            ("forgets", &|fault| matches!(fault, Fault::Receiver(Manners::Forgets)), 2),
            ("agent without descriptors", &|fault| *fault == Fault::Starve(Whom::Agent, true), 2),
            ("pool without descriptors", &|fault| *fault == Fault::Starve(Whom::Pool, true), 2),
            ("journal damaged", &|fault| matches!(fault, Fault::Journal(..)), 2),
            ("journal unlinked", &|fault| matches!(fault, Fault::Unlink(_)), 2),
            ("bundle away", &|fault| *fault == Fault::BundleAway(true), 2),
            ("files hidden", &|fault| *fault == Fault::HideFiles(true), 2),
            ("folder hidden", &|fault| *fault == Fault::HideFolder(true), 2),
            ("folder away", &|fault| matches!(fault, Fault::Away(_, true)), 6),
            ("silent", &|fault| *fault == Fault::Silent(true), 2),
            ("tenant", &|fault| *fault == Fault::Flood(true), 2),
        ];
        for (name, is, least) in kinds {
            assert!(count(is) >= least, "seed {seed}: {name} {}", count(is));
        }
        let ends: [(&str, Is, Is); 13] = [
            ("cut", &|fault| *fault == Fault::Cut, &|fault| *fault == Fault::Whole),
            ("udp", &|fault| *fault == Fault::BlockUdp(true), &|fault| *fault == Fault::BlockUdp(false)),
            ("address", &|fault| *fault == Fault::DropAddress, &|fault| *fault == Fault::TakeAddress),
            ("pool", &|fault| matches!(fault, Fault::PoolKill | Fault::PoolDrain), &|fault| {
                *fault == Fault::PoolStart
            }),
            ("silent", &|fault| *fault == Fault::Silent(true), &|fault| *fault == Fault::Silent(false)),
            ("tenant", &|fault| *fault == Fault::Flood(true), &|fault| *fault == Fault::Flood(false)),
            ("files", &|fault| *fault == Fault::HideFiles(true), &|fault| *fault == Fault::HideFiles(false)),
            ("folder", &|fault| *fault == Fault::HideFolder(true), &|fault| {
                *fault == Fault::HideFolder(false)
            }),
            ("away", &|fault| matches!(fault, Fault::Away(_, true)), &|fault| {
                matches!(fault, Fault::Away(_, false))
            }),
            ("bundle", &|fault| *fault == Fault::BundleAway(true), &|fault| {
                *fault == Fault::BundleAway(false)
            }),
            ("descriptors", &|fault| matches!(fault, Fault::Starve(_, true)), &|fault| {
                matches!(fault, Fault::Starve(_, false))
            }),
            ("disk", &|fault| matches!(fault, Fault::Fill(_)), &|fault| matches!(fault, Fault::Empty(_))),
            (
                "agent",
                &|fault| matches!(fault, Fault::AgentKill | Fault::AgentStop | Fault::AgentKillAtWrite(_)),
                &|fault| *fault == Fault::AgentStart,
            ),
        ];
        for (name, begins, ends) in ends {
            assert_eq!(count(begins), count(ends), "seed {seed}: {name}");
        }
        let rude = count(&|fault| matches!(fault, Fault::Receiver(Manners::Refuses | Manners::Forgets)));
        assert_eq!(rude, count(&|fault| *fault == Fault::Receiver(Manners::Kind)), "seed {seed}");
    }
}

#[test]
fn cuts_and_weather_stay_within_what_was_asked_for() {
    for seed in 0..200 {
        let plan = plan(seed, Duration::from_secs(3600));
        let mut cut_at = None;
        for step in &plan.steps {
            match step.what {
                Fault::Cut => cut_at = Some(step.at),
                Fault::Whole => {
                    let cut = step.at - cut_at.take().unwrap();
                    let range = Duration::from_millis(199)..=Duration::from_millis(120_001);
                    assert!(range.contains(&cut) || step.at == plan.length, "seed {seed}: {cut:?}");
                }
                Fault::Weather(weather) => {
                    let delay = weather.delay.as_millis();
                    assert!((5..=400).contains(&delay), "seed {seed}: {delay}");
                    let rate = weather.rate.unwrap();
                    assert!((99_999..=20_000_001).contains(&rate), "seed {seed}: {rate}");
                    if let Loss::Random(share) | Loss::Bursts { share, .. } = weather.loss {
                        assert!(share <= 0.1, "seed {seed}: {share}");
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_short_plan_is_dense_and_ends_in_time() {
    for seed in 0..200 {
        let plan = plan(seed, Duration::from_secs(40));
        assert!(plan.steps.len() > 40, "seed {seed}: {}", plan.steps.len());
        assert!(plan.steps.iter().all(|step| step.at <= plan.length), "seed {seed}");
    }
}

#[test]
fn a_plan_of_half_a_minute_deals_every_kind_over_the_seeds() {
    let is_new: [Is; 9] = [
        &|fault| *fault == Fault::Starve(Whom::Agent, true),
        &|fault| *fault == Fault::Starve(Whom::Pool, true),
        &|fault| matches!(fault, Fault::Journal(Book::Base, _)),
        &|fault| matches!(fault, Fault::Journal(Book::Log, _)),
        &|fault| matches!(fault, Fault::Unlink(_)),
        &|fault| *fault == Fault::BundleAway(true),
        &|fault| *fault == Fault::HideFiles(true),
        &|fault| *fault == Fault::Away(Absence::Renamed, true),
        &|fault| *fault == Fault::Away(Absence::Covered, true),
    ];
    let plans: Vec<Plan> = (0..200).map(|seed| plan(seed, Duration::from_secs(30))).collect();
    for (at, is) in is_new.iter().enumerate() {
        let having = plans.iter().filter(|plan| plan.steps.iter().any(|step| is(&step.what))).count();
        assert!(having >= 40, "kind {at} is in {having} of 200 plans");
    }
}

#[test]
fn a_plan_may_have_some_kinds_alone() {
    let only = Kinds::named("journal, hidden-files").unwrap();
    let plan = Plan::new(3, TEN_MINUTES, &only);
    let wanted = |fault: &Fault| {
        matches!(fault, Fault::Journal(..) | Fault::HideFiles(_) | Fault::AgentKill | Fault::AgentStart)
    };
    assert!(plan.steps.iter().all(|step| wanted(&step.what)));
    assert!(plan.steps.iter().filter(|step| matches!(step.what, Fault::Journal(..))).count() > 20);
    let error = Kinds::named("journal,locusts").unwrap_err();
    assert!(error.contains("`locusts` is no kind of fault") && error.contains("folder-covered"), "{error}");
}
