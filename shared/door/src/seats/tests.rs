use super::*;

fn seats(connections: usize, knocks: usize, has_spares: bool) -> Arc<Seats> {
    let bounds = Bounds { connections, knocks, has_spares };
    Seats::new("test", bounds, CancellationToken::new(), Arc::new(Counts::default()))
}

fn addr(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 1).into()
}

fn sit(seats: &Arc<Seats>, last: u8) -> Option<Seat> {
    seats.knock(addr(last)).sit(Holder::of(addr(last), None))
}

#[test]
fn who_leaves_for_another_is_cut_and_who_goes_gives_its_place_back() {
    let seats = seats(2, 2, false);
    let (first, second) = (sit(&seats, 1).unwrap(), sit(&seats, 1).unwrap());
    first.busy();
    let third = sit(&seats, 1).unwrap();
    assert!(second.cut().is_cancelled() && !first.cut().is_cancelled());
    // What is gone already does nothing when it is dropped.
    drop(second);
    third.busy();
    assert!(sit(&seats, 1).is_none(), "all are being served");
    drop(first);
    let fourth = sit(&seats, 1).unwrap();
    assert!(!fourth.is_spare() && !third.cut().is_cancelled());
    seats.clear();
    assert!(fourth.cut().is_cancelled() && !third.cut().is_cancelled());
}

#[test]
fn who_greets_and_asks_for_nothing_leaves_for_another_and_hears_the_end() {
    let seats = seats(1, 2, false);
    let first = sit(&seats, 1).unwrap();
    first.greeted();
    seats.clear();
    assert!(!first.cut().is_cancelled(), "it may wait for the end");
    let second = sit(&seats, 1).unwrap();
    assert!(first.cut().is_cancelled());
    second.vouch();
    assert!(sit(&seats, 1).is_none(), "it has asked for something");
}

#[test]
fn who_knocks_takes_no_place_of_those_who_are_in() {
    let seats = seats(1, 4, false);
    let one = sit(&seats, 1).unwrap();
    let knocks: Vec<Knock> = (0..40).map(|_| seats.knock(addr(2))).collect();
    assert!(!one.cut().is_cancelled());
    assert_eq!(
        knocks.iter().filter(|knock| !knock.cut().is_cancelled()).count(),
        3,
        "three quarters of four"
    );
    assert!(seats.is_pressed());
    // One that was cut gets no place, however far it had come.
    let cut = knocks.into_iter().find(|knock| knock.cut().is_cancelled()).unwrap();
    assert!(cut.sit(Holder::of(addr(2), None)).is_none());
}

#[test]
fn health_has_places_of_its_own() {
    let seats = seats(1, 4, true);
    let served = sit(&seats, 1).unwrap();
    served.busy();
    let spares: Vec<Seat> = (0..20).map(|_| sit(&seats, 1).unwrap()).collect();
    assert!(spares.iter().all(Seat::is_spare) && !served.cut().is_cancelled());
    assert_eq!(spares.iter().filter(|seat| !seat.cut().is_cancelled()).count(), SPARES);
    drop((served, spares));
    assert!(!sit(&seats, 1).unwrap().is_spare());
}

#[test]
fn a_process_without_descriptors_gives_up_those_who_say_nothing() {
    let seats = seats(4, 4, false);
    let (served, quiet) = (sit(&seats, 1).unwrap(), sit(&seats, 1).unwrap());
    served.busy();
    let knock = seats.knock(addr(1));
    let none_left = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
    seats.cannot_accept(&io::ErrorKind::ConnectionAborted.into());
    assert!(!knock.cut().is_cancelled());
    seats.cannot_accept(&none_left);
    assert!(knock.cut().is_cancelled() && !quiet.cut().is_cancelled());
    seats.cannot_accept(&none_left);
    assert!(quiet.cut().is_cancelled());
    seats.cannot_accept(&none_left);
    assert!(!served.cut().is_cancelled());
}
