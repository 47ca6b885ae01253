//! How many files the process may have open, and what its doors get of them: a door that is full refuses by name, a
//! process without descriptors breaks wherever it is just then.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::seats::Bounds;

/// Descriptors that are kept from the doors: listeners, files, sinks, models, workers, the line to a pool. A quarter of all,
/// within these.
const RESERVE: (usize, usize) = (64, 1024);
/// Least places of a door, however few descriptors there are.
const LEAST: usize = 4;

/// Raises the limit of open files as far as the system lets an ordinary process; gives what it is then. `None`: unlimited.
pub fn raise() -> io::Result<Option<usize>> {
    let limit = getrlimit(Resource::Nofile);
    let current = match limit.current != limit.maximum {
        true => {
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
            limit.maximum
        }
        false => limit.current,
    };
    Ok(current.map(|current| usize::try_from(current).unwrap_or(usize::MAX)))
}

/// Fits the bounds of all doors of a process into its limit, and says whether that took something from them: first from
/// those who knock, then from the connections.
pub fn fit(limit: Option<usize>, doors: &mut [Bounds]) -> bool {
    let Some(limit) = limit else { return false };
    let free = limit.saturating_sub((limit / 4).clamp(RESERVE.0, RESERVE.1));
    let total = |doors: &[Bounds]| doors.iter().map(Bounds::total).sum::<usize>();
    let over = |doors: &[Bounds]| total(doors).saturating_sub(free);
    let is_over = over(doors) > 0;
    let fields: [fn(&mut Bounds) -> &mut usize; 2] =
        [|bounds| &mut bounds.knocks, |bounds| &mut bounds.connections];
    for field in fields {
        let over = over(doors);
        let sum: usize = doors.iter_mut().map(|door| *field(door)).sum();
        for door in doors.iter_mut() {
            let value = field(door);
            // Each gives up as much of its own as all have to.
            let less = (value.saturating_mul(over)).div_ceil(sum.max(1));
            *value = value.saturating_sub(less).max(LEAST.min(*value));
        }
    }
    is_over
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors() -> [Bounds; 3] {
        let of = |connections, knocks| Bounds { connections, knocks, has_spares: true };
        [of(256, 2048), of(256, 2048), of(64, 128)]
    }

    #[test]
    fn all_doors_together_fit_into_what_the_process_has() {
        for limit in [256, 512, 1024, 4096, 8192] {
            let (mut doors, before) = (doors(), doors());
            let is_less = fit(Some(limit), &mut doors);
            let total: usize = doors.iter().map(Bounds::total).sum();
            assert_eq!(is_less, limit < 8192, "{limit}");
            assert!(total + RESERVE.0 <= limit, "{total} of {limit}");
            for (door, before) in doors.iter().zip(before) {
                assert!(door.connections >= LEAST && door.knocks >= LEAST, "{door:?} of {limit}");
                assert!(limit < 1024 || door.connections == before.connections, "{door:?} of {limit}");
                assert!(is_less || *door == before);
            }
        }
        let mut unlimited = doors();
        assert!(!fit(None, &mut unlimited) && unlimited == doors());
        // A process that has next to none still answers.
        let mut few = doors();
        assert!(fit(Some(16), &mut few) && few.iter().all(|door| door.connections == LEAST));
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let raised = raise().unwrap();
        assert_eq!(raise().unwrap(), raised);
        assert_eq!(getrlimit(Resource::Nofile).current.map(|current| current as usize), raised);
    }
}
