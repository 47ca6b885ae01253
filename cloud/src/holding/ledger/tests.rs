//! The ledger's laws, over random worlds.

use proptest::prelude::*;

use super::*;

fn holder(own: u8, group: u8) -> Holder<u8, u8> {
    Holder { own, group }
}

/// Takes in halves for as long as there is anything to be had.
fn take_all(ledger: &mut Ledger<u8, u8>, holder: &Holder<u8, u8>) -> u64 {
    let (mut step, mut taken) = (ledger.common, 0);
    while step > 0 {
        match ledger.take(holder, step) {
            Ok(()) => taken += step,
            Err(_) => step /= 2,
        }
    }
    taken
}

proptest! {
    #[test]
    fn the_sum_is_bounded_the_floor_is_had_and_all_is_given_back(
        whole in 1000_u64..1_000_000,
        steps in proptest::collection::vec((any::<bool>(), 0_u8..12, 0_u64..400_000), 1..200),
    ) {
        const HOLDERS: u64 = 12;
        let mut ledger = Ledger::new(whole, HOLDERS);
        let mut holds: Vec<(Holder<u8, u8>, u64)> = Vec::new();
        let floor = whole / FLOORS_SHARE / HOLDERS;
        for (takes, who, bytes) in steps {
            let who = holder(who, who / 4);
            let has = |holds: &[(Holder<u8, u8>, u64)]| -> u64 {
                holds.iter().filter(|(holder, _)| *holder == who).map(|(_, bytes)| bytes).sum()
            };
            if takes {
                let under_floor = has(&holds) + bytes <= floor;
                let took = ledger.take(&who, bytes);
                prop_assert!(took.is_ok() || !under_floor, "the floor of {floor} is had: {took:?}");
                if took.is_ok() {
                    holds.push((who, bytes));
                }
            } else if !holds.is_empty() {
                let (holder, bytes) = holds.swap_remove(bytes as usize % holds.len());
                ledger.give(&holder, bytes);
            }
            let sum: u64 = holds.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(ledger.taken(), sum);
            prop_assert!(sum <= whole);
        }
        for (holder, bytes) in holds {
            ledger.give(&holder, bytes);
        }
        prop_assert_eq!((ledger.taken(), ledger.holders(), ledger.groups.len()), (0, 0, 0));
    }

    #[test]
    fn however_many_are_greedy_the_next_gets_more_than_its_floor(greedy in 1_u8..40, whole in 1_000_000_u64..u64::from(u32::MAX)) {
        let mut ledger = Ledger::new(whole, 64);
        let first = take_all(&mut ledger, &holder(0, 0));
        prop_assert_eq!(first, ledger.most());
        for who in 1..greedy {
            take_all(&mut ledger, &holder(who, who));
        }
        let free = ledger.common - ledger.common_taken;
        prop_assert!(free >= ledger.common >> (2 * u32::from(greedy)).min(60), "something is always left");
        let next = take_all(&mut ledger, &holder(200, 200));
        prop_assert!(next >= ledger.floor + free / (TIMES_THE_REST + 1) * TIMES_THE_REST - TIMES_THE_REST);
    }

    #[test]
    fn a_group_gets_no_more_for_having_many_members(members in 2_u8..100, whole in 1_000_000_u64..u64::from(u32::MAX)) {
        let mut ledger = Ledger::new(whole, 256);
        let alone = ledger.common / (TIMES_THE_REST + 1) * TIMES_THE_REST + TIMES_THE_REST;
        for member in 0..members {
            take_all(&mut ledger, &holder(member, 7));
        }
        prop_assert!(ledger.groups[&7] <= alone);
        let next = take_all(&mut ledger, &holder(200, 8));
        prop_assert!(next >= ledger.common / 8, "another group is not kept out: {next}");
    }
}

#[test]
fn what_can_never_be_had_is_told_from_what_is_taken() {
    let mut ledger = Ledger::new(4000, 10);
    let (one, other) = (holder(1, 1), holder(2, 2));
    assert_eq!(ledger.most(), 100 + 2250);
    assert_eq!(ledger.take(&one, 2351), Err(Full::Never));
    assert_eq!(ledger.take(&one, 2350), Ok(()));
    assert_eq!(ledger.take(&one, 1), Err(Full::Share));
    assert_eq!(ledger.take(&other, 2000), Err(Full::Whole));
    assert_eq!(ledger.take(&other, 600), Ok(()));
    // More than is held is not given back.
    ledger.give(&one, 1 << 40);
    ledger.give(&holder(9, 9), 5);
    assert_eq!((ledger.taken(), ledger.holders()), (600, 1));
}
