use std::collections::BTreeMap;

use fastrand::Rng;
use millgate_identity::DeviceName;
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

use super::super::holder::Block;
use super::*;

fn device(tenant: &str, name: &str) -> Holder {
    Holder::Device(DeviceName::new(tenant, name).unwrap())
}

fn somebody(number: u8) -> Holder {
    Holder::Somebody(Block::of(([10, 0, 0, number], 1).into()))
}

/// Places with what became of each newcomer, as somebody who looks from outside sees it.
struct World {
    places: Places,
    rng: Rng,
    /// Who is in, and whether it is quiet.
    seated: BTreeMap<u64, (Holder, bool)>,
}

impl World {
    fn new(most: usize) -> Self {
        Self { places: Places::new(most), rng: Rng::with_seed(7), seated: BTreeMap::new() }
    }

    fn admit(&mut self, holder: &Holder) -> Admission {
        let admission = self.places.admit(holder.clone(), &mut self.rng);
        let seat = match admission {
            Admission::Seated(seat) => seat,
            Admission::Displaced { seat, left, .. } => {
                assert!(self.seated.remove(&left).is_some(), "who left was in");
                seat
            }
            Admission::Full => return admission,
        };
        self.seated.insert(seat, (holder.clone(), true));
        admission
    }

    fn serve(&mut self, seat: u64, is_quiet: bool) {
        self.places.set_quiet(seat, is_quiet);
        if let Some((_, quiet)) = self.seated.get_mut(&seat) {
            *quiet = is_quiet;
        }
    }

    /// Lets it in and serves it; gives whether it got in.
    fn seat_served(&mut self, holder: &Holder) -> bool {
        match self.admit(holder) {
            Admission::Seated(seat) | Admission::Displaced { seat, .. } => {
                self.serve(seat, false);
                true
            }
            Admission::Full => false,
        }
    }

    fn count(&self, is_one: impl Fn(&Holder) -> bool) -> usize {
        self.seated.values().filter(|(holder, _)| is_one(holder)).count()
    }
}

#[test]
fn one_device_that_holds_all_gives_up_half_to_another_and_no_more() {
    let mut world = World::new(256);
    let (greedy, other) = (device("acme", "cam-1"), device("acme", "cam-2"));
    for _ in 0..300 {
        world.seat_served(&greedy);
    }
    assert_eq!(world.count(|holder| *holder == greedy), 256);
    for _ in 0..300 {
        world.seat_served(&other);
    }
    assert_eq!(world.count(|holder| *holder == other), 128);
    // Nor does the first take any of it back.
    for _ in 0..300 {
        world.seat_served(&greedy);
    }
    assert_eq!(world.count(|holder| *holder == other), 128);
}

#[test]
fn a_tenant_of_many_devices_takes_no_more_than_a_tenant_of_one() {
    let mut world = World::new(100);
    for number in 0..200 {
        world.seat_served(&device("acme", &format!("cam-{number}")));
    }
    let lone = device("beta", "press");
    for _ in 0..200 {
        world.seat_served(&lone);
    }
    assert_eq!(world.count(|holder| *holder == lone), 50);
    assert!(world.seat_served(&device("gamma", "oven")), "a third gets in");
}

#[test]
fn a_thousand_addresses_of_strangers_keep_no_device_out_and_cut_none() {
    let mut world = World::new(64);
    for number in 0..8 {
        assert!(world.seat_served(&device("acme", &format!("cam-{number}"))));
    }
    for round in 0..4 {
        for number in 0..250 {
            assert_ne!(
                world.admit(&somebody(number)),
                Admission::Full,
                "{round}: one quiet leaves for the next"
            );
        }
    }
    assert_eq!(world.count(|holder| matches!(holder, Holder::Device(_))), 8);
    for number in 8..32 {
        assert!(world.seat_served(&device("acme", &format!("cam-{number}"))), "{number}");
    }
    assert_eq!(world.count(|holder| matches!(holder, Holder::Device(_))), 32);
}

#[test]
fn who_shows_nothing_gets_room_to_show_something_and_cuts_no_more_than_that() {
    let mut world = World::new(64);
    for number in 0..64 {
        assert!(world.seat_served(&device("acme", &format!("cam-{number}"))));
    }
    for number in 0..250 {
        assert_ne!(world.admit(&somebody(number)), Admission::Full, "{number}");
    }
    assert_eq!(world.count(|holder| matches!(holder, Holder::Somebody(_))), 64 / OF_NOBODY);
}

#[test]
fn a_device_that_has_just_come_in_is_not_cut_for_one_that_holds_nearly_all() {
    let mut world = World::new(32);
    let (greedy, second) = (device("acme", "cam-1"), device("acme", "cam-2"));
    for _ in 0..32 {
        world.seat_served(&greedy);
    }
    // It is quiet, for it has not said anything yet.
    let Admission::Displaced { seat, .. } = world.admit(&second) else { panic!("it gets in") };
    for number in 3..12 {
        assert!(world.seat_served(&device("acme", &format!("cam-{number}"))));
        assert!(world.seated.contains_key(&seat), "cam-{number}");
    }
}

#[test]
fn who_has_shown_a_right_is_not_taken_for_a_stranger() {
    let mut world = World::new(8);
    let Admission::Seated(known) = world.admit(&somebody(1)) else { panic!("there is room") };
    world.places.vouch(known);
    world.serve(known, false);
    for _ in 0..50 {
        world.admit(&somebody(1));
    }
    assert!(world.seated.contains_key(&known));
}

#[test]
fn a_quiet_one_leaves_at_random_and_not_the_oldest() {
    let left: std::collections::BTreeSet<u64> = (0..200)
        .map(|seed| {
            let mut places = Places::new(16);
            let mut rng = Rng::with_seed(seed);
            for _ in 0..16 {
                places.admit(somebody(1), &mut rng);
            }
            match places.admit(somebody(1), &mut rng) {
                Admission::Displaced { left, why: Why::Quiet, .. } => left,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(left.len() > 12, "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, goes, speaks and falls silent: the laws of places.
    #[test]
    fn nobody_loses_to_who_has_as_much(
        most in 1_usize..12,
        steps in prop::collection::vec((0_u8..4, 0_u8..9), 1..160),
    ) {
        let holders: Vec<Holder> = ["acme", "beta", "gamma"]
            .iter()
            .flat_map(|tenant| ["1", "2"].map(|name| device(tenant, name)))
            .chain((1..4).map(somebody))
            .collect();
        let mut world = World::new(most);
        for (action, number) in steps {
            let newcomer = &holders[usize::from(number)];
            let pick = world.seated.keys().copied().nth(usize::from(number) % world.seated.len().max(1));
            match (action, pick) {
                (0 | 1, _) => {
                    let before = world.seated.clone();
                    let of = |is_one: &dyn Fn(&Holder) -> bool| before.values().filter(|(it, _)| is_one(it)).count();
                    let ours = of(&|it| it.party() == newcomer.party()) + 1;
                    let mine = of(&|it| it == newcomer) + 1;
                    match world.admit(newcomer) {
                        Admission::Seated(_) => prop_assert!(before.len() < most),
                        Admission::Displaced { left, why, .. } => {
                            prop_assert_eq!(before.len(), most);
                            let (loser, was_quiet) = &before[&left];
                            prop_assert_eq!(why == Why::Quiet, *was_quiet);
                            let theirs = of(&|it| it.party() == loser.party());
                            let its = of(&|it| it == loser);
                            if loser.party() != newcomer.party() {
                                prop_assert!(
                                    newcomer.party() != Party::Somebody || ours * OF_NOBODY <= most,
                                    "{newcomer:?} is nobody"
                                );
                                let least = if *was_quiet { ours } else { ours + 1 };
                                prop_assert!(theirs >= least, "{loser:?} had {theirs}, {newcomer:?} has {ours}");
                            } else if loser != newcomer {
                                let least = if *was_quiet { mine } else { mine + 1 };
                                prop_assert!(its >= least, "{loser:?} had {its}, {newcomer:?} has {mine}");
                            } else {
                                prop_assert!(*was_quiet, "nobody cuts its own that is being served");
                            }
                        }
                        Admission::Full => {
                            prop_assert_eq!(before.len(), most);
                            // Then no party has more than its would have, and no holder of its party more than it.
                            for (other, _) in before.values() {
                                prop_assert!(
                                    newcomer.party() == Party::Somebody
                                        || of(&|it| it.party() == other.party()) <= ours
                                );
                                prop_assert!(
                                    other.party() != newcomer.party() || of(&|it| it == other) <= mine
                                );
                            }
                        }
                    }
                }
                (2, Some(seat)) => {
                    let is_quiet = world.seated[&seat].1;
                    world.serve(seat, !is_quiet);
                }
                (3, Some(seat)) => {
                    world.places.leave(seat);
                    world.seated.remove(&seat);
                }
                _ => {}
            }
            prop_assert!(world.seated.len() <= most);
            prop_assert_eq!(world.places.taken.len(), world.seated.len());
        }
    }
}
