//! Devices that move, that have several connections, that are translated; and two that are one.

use proptest::prelude::*;

use super::*;

struct World {
    clones: Clones<&'static str>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { clones: Clones::default(), now: Instant::now() }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn hear(&mut self, connection: &str) -> Heard {
        self.clones.hear(&"cam", connection.parse().unwrap(), self.now)
    }
}

fn is_cloned(heard: Heard) -> bool {
    heard != Heard::Alone
}

#[test]
fn two_that_speak_by_turns_are_noticed_and_said_once_in_a_while() {
    let mut world = World::new();
    let (first, second) = ("10.0.0.1:1000", "10.9.9.9:2000");
    let mut noticed = None;
    for call in 0..80 {
        let heard = world.hear(if call % 2 == 0 { first } else { second });
        if is_cloned(heard) && noticed.is_none() {
            noticed = Some(call);
            let other = "10.9.9.9".parse().unwrap();
            assert_eq!(heard, Heard::Cloned { other, is_newer: false, is_news: true });
        }
        world.after(5);
    }
    // The first one came back after 10 s, and a minute later it was sure.
    assert_eq!((noticed, world.clones.cloned(world.now)), (Some(14), 1));
    let other = "10.0.0.1".parse().unwrap();
    assert_eq!(world.hear(second), Heard::Cloned { other, is_newer: true, is_news: false });
    // Minutes after one of them is gone it is one again, and in the end nothing is known of it.
    for _ in 0..8 {
        world.after(100).hear(first);
    }
    assert!(!is_cloned(world.hear(first)));
    let later = world.after(3600).now;
    world.clones.forget(later);
    assert_eq!(world.clones.devices.len(), 0);
}

#[test]
fn a_device_that_moves_is_one() {
    let mut world = World::new();
    // Every minute to another network, with a new connection, for a day; on the way what is left of the old one is asked.
    for at in 0..1440_u32 {
        let before = format!("10.{}.0.1:{}", at % 7, 4000 + at);
        let after = format!("10.{}.0.1:{}", (at + 1) % 7, 4001 + at);
        assert!(!is_cloned(world.hear(&before)) && !is_cloned(world.hear(&after)));
        assert!(!is_cloned(world.after(30).hear(&after)));
        world.after(30);
    }
}

#[test]
fn what_is_under_way_on_the_old_connection_is_no_clone() {
    let mut world = World::new();
    for _ in 0..20 {
        assert!(!is_cloned(world.hear("10.0.0.1:1")));
        world.now += Duration::from_millis(500);
        assert!(!is_cloned(world.hear("10.0.0.2:2")));
        world.now += Duration::from_millis(500);
    }
}

#[test]
fn several_connections_of_one_place_and_both_families_are_one() {
    let mut world = World::new();
    for _ in 0..200 {
        for connection in
            ["10.0.0.1:1", "10.0.0.1:2", "[2001:db8::1]:3", "[2001:db8::ffff]:4", "[::ffff:10.0.0.1]:5"]
        {
            assert!(!is_cloned(world.after(1).hear(connection)), "{connection}");
        }
    }
    for _ in 0..200 {
        world.after(1).hear("[2001:db8:9::1]:6");
        world.after(1).hear("[2001:db8::1]:3");
    }
    assert!(is_cloned(world.hear("[2001:db8::1]:3")));
}

proptest! {
    #[test]
    fn what_is_kept_of_a_device_is_bounded_and_one_place_is_never_a_clone(
        steps in proptest::collection::vec((0_u16..500, 0_u64..900, any::<bool>()), 1..300),
    ) {
        let mut world = World::new();
        for (port, seconds, forgets) in steps {
            let heard = world.after(seconds).hear(&format!("10.0.0.1:{}", 1 + port));
            prop_assert_eq!(heard, Heard::Alone);
            if forgets {
                let now = world.now;
                world.clones.forget(now);
            }
            prop_assert!(world.clones.devices.values().all(|device| device.places.len() <= MOST));
        }
    }
}
