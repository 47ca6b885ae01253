//! How many connections each door takes, within what the process may have open.

use millgate_shared::door::descriptors;
use millgate_shared::door::seats::Bounds;

/// Connections of a door to other machines that have yet to show that they are real: with so many places, an honest one with
/// a round trip of 600 ms gets through a thousand silent ones a second, also from its own address, more often than not at
/// the first try (`shared/door/src/knocks/tests.rs`).
const KNOCKS: usize = 2048;
/// Connections to the operators' port at a time, and of those that have said nothing yet.
const OPERATORS: usize = 64;

/// Bounds of the three doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DoorBounds {
    pub(crate) grpc: Bounds,
    pub(crate) http: Bounds,
    pub(crate) operators: Bounds,
}

impl DoorBounds {
    /// Raises the process's limit of open files, and gives the doors what it has room for. Says so where that is less than
    /// was asked for.
    pub(crate) fn fit(max_connections: usize) -> Self {
        let of = |has_spares| Bounds { connections: max_connections, knocks: KNOCKS, has_spares };
        let mut doors =
            [of(false), of(true), Bounds { connections: OPERATORS, knocks: OPERATORS, has_spares: true }];
        let limit = descriptors::raise().unwrap_or_else(|error| {
            tracing::warn!(%error, "the limit of open files cannot be read or raised");
            None
        });
        let is_less = descriptors::fit(limit, &mut doors);
        let [grpc, http, operators] = doors;
        if is_less {
            tracing::warn!(
                files = limit,
                max_connections,
                grpc = grpc.connections,
                http = http.connections,
                knocks = grpc.knocks,
                "fewer connections are let in than `max_connections` and those that get ready: the process may open too \
                 few files (LimitNOFILE, ulimit -Hn)"
            );
        }
        Self { grpc, http, operators }
    }
}
