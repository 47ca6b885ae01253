use super::*;

fn part(name: &str) -> Item {
    Item::Part { name: name.to_owned() }
}

fn death(in_hand: &[&str], is_reboot: bool) -> Death {
    Death { in_hand: in_hand.iter().map(|name| part(name)).collect(), is_reboot }
}

#[test]
fn one_death_suspects_and_two_more_of_it_alone_set_aside() {
    let after = judge(vec![], &death(&["poison", "good"], false));
    assert!(after.len() == 2 && after.iter().all(|suspect| suspect.points == 0 && suspect.deaths == 1));
    let after = judge(vec![after[0].clone()], &death(&["poison"], false));
    assert!(!after[0].is_aside());
    let after = judge(after, &death(&["poison"], false));
    assert!(after[0].is_aside() && after[0].deaths == 3);
}

#[test]
fn a_machine_that_goes_down_says_half_as_much() {
    let mut suspects = judge(vec![], &death(&["a"], true));
    for deaths in 2..=5 {
        assert!(!suspects[0].is_aside(), "{deaths}");
        suspects = judge(suspects, &death(&["a"], true));
    }
    assert!(suspects[0].is_aside());
}

#[test]
fn samples_that_nobody_brings_again_are_no_suspects_but_company() {
    let in_hand = vec![Item::Call, part("a")];
    let once = judge(vec![], &Death { in_hand: in_hand.clone(), is_reboot: false });
    assert_eq!(once, [Suspect { item: part("a"), deaths: 1, points: 0 }]);
    let twice = judge(once, &Death { in_hand, is_reboot: false });
    assert_eq!(twice[0].points, DOUBTFUL);
}

#[test]
fn suspects_are_bounded() {
    let all: Vec<String> = (0..3000).map(|at| at.to_string()).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let after = judge(vec![], &death(&names, false));
    assert!(after.len() == SUSPECTS && after.last().unwrap().item == part("2999"));
}

#[test]
fn a_key_that_is_no_text_is_kept_as_it_is() {
    for bytes in [&b"a/\xff\xfe.png"[..], b"\xc3\xbc.png", b"plain.png"] {
        let (key, face) = (Key::new(bytes), Mark::new([1, 0, 254]));
        let item = Item::Sample { source: "cam1".to_owned(), key, face };
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(serde_json::from_str::<Item>(&text).unwrap(), item, "{text}");
    }
}

/// A line in virtual time, in milliseconds: files come, are computed for a while, some at once; the agent is killed at
/// random, and dies whenever it has `poison` in hand for as long as it takes.
struct World {
    chance: fastrand::Rng,
    poison: Option<usize>,
    /// Mean time between kills.
    kills: f64,
    waiting: Vec<usize>,
    done: Vec<usize>,
    aside: Vec<usize>,
    suspects: Vec<Suspect>,
    starts: u32,
}

const TOGETHER: usize = 4;
const TAKES: f64 = 40.0;
const START: f64 = 800.0;

impl World {
    fn number(suspect: &Suspect) -> usize {
        match &suspect.item {
            Item::Part { name } => name.parse().unwrap(),
            _ => unreachable!(),
        }
    }

    /// One life of the agent; true if there is nothing left to do.
    fn live(&mut self) -> bool {
        self.starts += 1;
        let calm =
            1000.0 * f64::from(1 << self.suspects.iter().map(|suspect| suspect.points).max().unwrap_or(0));
        let kill = -self.kills * (1.0 - self.chance.f64()).ln();
        let mut now = START;
        let aside: Vec<usize> =
            self.suspects.iter().filter(|suspect| suspect.is_aside()).map(Self::number).collect();
        self.suspects.retain(|suspect| !suspect.is_aside());
        self.waiting.retain(|file| !aside.contains(file));
        self.aside.extend(aside);
        loop {
            let suspected: Vec<usize> = self.suspects.iter().map(Self::number).collect();
            let fresh: Vec<usize> = self
                .waiting
                .iter()
                .copied()
                .filter(|file| !suspected.contains(file))
                .take(TOGETHER)
                .collect();
            let (in_hand, begins) = match (fresh.is_empty(), suspected.first()) {
                (false, _) => (fresh, now),
                (true, Some(suspect)) => (vec![*suspect], now.max(START + calm)),
                (true, None) => return true,
            };
            let ends = begins + TAKES * (0.5 + self.chance.f64());
            let is_poisoned = self.poison.is_some_and(|poison| in_hand.contains(&poison));
            if kill < begins {
                self.suspects = judge(std::mem::take(&mut self.suspects), &Death::default());
                return false;
            }
            if kill < ends || is_poisoned {
                let in_hand: Vec<Item> = in_hand.iter().map(|file| part(&file.to_string())).collect();
                let death = Death { in_hand, is_reboot: false };
                self.suspects = judge(std::mem::take(&mut self.suspects), &death);
                return false;
            }
            now = ends;
            self.waiting.retain(|file| !in_hand.contains(file));
            self.suspects.retain(|suspect| !in_hand.contains(&Self::number(suspect)));
            self.done.extend(in_hand);
        }
    }
}

#[test]
fn a_poison_is_set_aside_soon_and_no_good_sample_ever_is() {
    let mut good_aside = 0;
    for seed in 0..4000 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let files = chance.usize(1..60);
        let poison = chance.bool().then(|| chance.usize(0..files));
        // A kill each five seconds is worse than any fault schedule.
        let kills = 5_000.0 + 60_000.0 * chance.f64();
        let (waiting, done, aside, suspects) = ((0..files).collect(), vec![], vec![], vec![]);
        let mut world = World { chance, poison, kills, waiting, done, aside, suspects, starts: 0 };
        while !world.live() {
            assert!(world.starts < 200, "seed {seed}: {:?} of {files} are never done", world.waiting);
        }
        assert_eq!(world.done.len() + world.aside.len(), files, "seed {seed}");
        assert!(poison.is_none_or(|poison| world.aside.contains(&poison)), "seed {seed}");
        good_aside += world.aside.iter().filter(|file| Some(**file) != poison).count();
        if world.kills > 50_000.0 && poison.is_some() {
            assert!(world.starts <= 12, "seed {seed}: {} starts", world.starts);
        }
    }
    assert_eq!(good_aside, 0);
}
