use super::*;

fn signature(datatype: Datatype, role: Option<Role>) -> Signature {
    let port = |name: &str, datatype, axes: &[usize]| Port {
        name: name.to_owned(),
        datatype,
        shape: Some(axes.iter().copied().map(Axis::Fixed).collect()),
    };
    let mut signature = Signature {
        inputs: vec![port("x", Datatype::Fp32, &[2, 3]), port("told", datatype, &[2])],
        ..Signature::default()
    };
    signature.graph.roles.extend(role.map(|role| ("told".to_owned(), role)));
    signature
}

fn told(guess: Guess, datatype: Datatype, role: Role) -> Array {
    inputs(guess, &signature(datatype, Some(role)), 1, 1).unwrap().pop().unwrap()
}

#[test]
fn a_role_decides_the_values() {
    for (role, first, second) in [
        (Role::Shape, [2_i64, 3], [-1_i64, 1]),
        (Role::Axes, [0, 1], [-1, -2]),
        (Role::Count, [1, 1], [2, 2]),
    ] {
        let of = |guess| told(guess, Datatype::Int64, role);
        assert_eq!(of(Guess::ByRole).values(), &Values::from(first.to_vec()), "{role:?}");
        assert_eq!(of(Guess::ByRoleToo).values(), &Values::from(second.to_vec()), "{role:?}");
    }
    assert_eq!(told(Guess::ByRole, Datatype::Fp32, Role::Scale).values(), &Values::from(vec![1.0_f32; 2]));
    let Values::Int64(divisors) = told(Guess::ByRole, Datatype::Int64, Role::Divisor).into_parts().1 else {
        panic!("no INT64")
    };
    assert!(divisors.iter().all(|divisor| (1..=3).contains(divisor)));
    // What divides or counts is never 0, whatever else is guessed.
    for guess in Guess::ALL {
        for role in [Role::Divisor, Role::Count] {
            let Values::Int64(values) = told(guess, Datatype::Int64, role).into_parts().1 else {
                panic!("no INT64")
            };
            assert!(values.iter().all(|value| *value > 0), "{guess:?} {role:?}");
        }
    }
    assert!(Guess::ByRole.is_for(&signature(Datatype::Int64, Some(Role::Axes))));
    assert!(!Guess::ByRole.is_for(&signature(Datatype::Int64, None)));
}

#[test]
fn every_type_has_every_guess_and_gets_the_same_each_time() {
    let types = [
        Datatype::Bool,
        Datatype::Uint8,
        Datatype::Uint16,
        Datatype::Uint32,
        Datatype::Uint64,
        Datatype::Int8,
        Datatype::Int16,
        Datatype::Int32,
        Datatype::Int64,
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
        Datatype::Bytes,
    ];
    for datatype in types {
        let signature = signature(datatype, None);
        for guess in Guess::ALL.into_iter().chain([Guess::Wide]) {
            let made = inputs(guess, &signature, 1, 1).unwrap();
            assert_eq!((made[1].datatype(), made[1].shape()), (datatype, &[2][..]), "{datatype} {guess:?}");
            assert_eq!(inputs(guess, &signature, 1, 1).unwrap(), made);
        }
    }
}

#[test]
fn wide_values_reach_both_ends() {
    let mut numbers = Numbers::default();
    let mut ends = |datatype| {
        let port = Port { name: "x".to_owned(), datatype, shape: None };
        match numbers.make(Guess::Wide, &port, 20_000) {
            Values::Uint8(values) => {
                (f64::from(*values.iter().min().unwrap()), f64::from(*values.iter().max().unwrap()))
            }
            Values::Int8(values) => {
                (f64::from(*values.iter().min().unwrap()), f64::from(*values.iter().max().unwrap()))
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ends(Datatype::Uint8), (0.0, 255.0));
    assert_eq!(ends(Datatype::Int8), (-128.0, 127.0));
}
