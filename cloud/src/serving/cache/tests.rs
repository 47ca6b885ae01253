use std::time::Duration;

use bytes::Bytes;
use millgate_shared::array::Values;

use super::*;
use crate::scheduling::{Curve, Limits, Profile, Scheduler};

fn cache(bytes: usize) -> Cache {
    Cache::new(&CacheConfig { bytes, bundle: false }).unwrap()
}

/// Two loads.
fn loads() -> (ModelId, ModelId) {
    let second = Duration::from_secs(1);
    let limits = Limits { workers: 1, entries: 1, bytes: 1, work: second, longest_batch: second };
    let mut scheduler: Scheduler<(), ()> = Scheduler::new(limits);
    let profile = Profile::alone(Curve::new(vec![(1, second)]));
    (scheduler.add_model(profile.clone()), scheduler.add_model(profile))
}

fn array(shape: &[usize], values: impl Into<Values>) -> Array {
    Array::new(shape.to_vec(), values.into()).unwrap()
}

fn floats(values: &[f32]) -> Array {
    array(&[values.len()], values.to_vec())
}

fn bits(outputs: &[Array]) -> Vec<Vec<u8>> {
    outputs.iter().map(|output| output.values().to_raw()).collect()
}

#[test]
fn questions_that_differ_in_anything_differ() {
    let text = |elements: &[&'static str]| {
        let elements: Vec<Bytes> =
            elements.iter().map(|element| Bytes::from_static(element.as_bytes())).collect();
        array(&[elements.len()], elements)
    };
    let questions = [
        digest("", &[floats(&[0.0, 1.0])]),
        digest("", &[floats(&[-0.0, 1.0])]),
        digest("", &[array(&[2, 1], vec![0.0f32, 1.0])]),
        digest("", &[floats(&[0.0]), floats(&[1.0])]),
        digest("", &[array(&[2], vec![0i32, 1.0f32.to_bits() as i32])]),
        digest("a", &[floats(&[0.0, 1.0])]),
        digest("", &[floats(&[f32::NAN, 1.0])]),
        digest("", &[text(&["ab", "c"])]),
        digest("", &[text(&["a", "bc"])]),
        digest("", &[]),
    ];
    for (at, question) in questions.iter().enumerate() {
        assert!(!questions[..at].contains(question), "{at}");
    }
    assert_eq!(questions[6], digest("", &[floats(&[f32::NAN, 1.0])]), "NaN equals itself by its bits");
}

#[tokio::test]
async fn a_hit_is_the_answer_bit_for_bit() {
    let (model, other) = loads();
    let cache = cache(1 << 20);
    for elements in [3, HASHED_HERE] {
        let inputs = vec![floats(&vec![f32::NAN; elements])];
        let (key, inputs) = cache.key(model, "", inputs).await.unwrap();
        assert!(cache.get(&key).is_none());
        let outputs = vec![floats(&[f32::from_bits(0x7fc0_1234), -0.0]), floats(&[])];
        cache.put(key, outputs.clone());
        let (again, inputs) = cache.key(model, "", inputs).await.unwrap();
        assert_eq!(bits(&cache.get(&again).unwrap()), bits(&outputs));
        let (key, _) = cache.key(other, "", inputs).await.unwrap();
        assert!(cache.get(&key).is_none(), "another load's answer");
    }
}

#[tokio::test]
async fn the_bound_holds_and_the_longest_unused_goes_first() {
    let (model, other) = loads();
    let one = size(&[floats(&[0.0; 8])]);
    let cache = cache(3 * one);
    let mut keys = Vec::new();
    for at in 0..4 {
        keys.push(cache.key(model, "", vec![floats(&[at as f32])]).await.unwrap().0);
    }
    for key in &keys[..3] {
        cache.put(*key, vec![floats(&[0.0; 8])]);
    }
    // The same again takes no more room.
    cache.put(keys[2], vec![floats(&[0.0; 8])]);
    assert_eq!(cache.usage(), Usage { bytes: 3 * one, capacity: 3 * one, entries: 3, evictions: 0 });
    assert!(cache.get(&keys[0]).is_some());
    cache.put(keys[3], vec![floats(&[0.0; 8])]);
    assert!(cache.get(&keys[1]).is_none() && cache.get(&keys[0]).is_some());
    assert_eq!(cache.usage(), Usage { bytes: 3 * one, capacity: 3 * one, entries: 3, evictions: 1 });
    // What is larger than the whole cache harms nobody.
    cache.put(keys[1], vec![floats(&[0.0; 4096])]);
    assert_eq!(cache.usage().entries, 3);
    cache.forget(other);
    assert_eq!(cache.usage().entries, 3);
    cache.forget(model);
    assert_eq!(cache.usage(), Usage { bytes: 0, capacity: 3 * one, entries: 0, evictions: 1 });
}

#[test]
fn without_bytes_there_is_none() {
    assert!(Cache::new(&CacheConfig::default()).is_none());
}
