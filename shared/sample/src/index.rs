//! Indices into a bundle's lists, each a type of its own, and lists that only their own index opens.
//!
//! An expert's index is a number that means nothing outside the manifest it was found in. As types of their own, the
//! index of an expert and that of a modality cannot be taken for one another, and neither is mistaken for a count.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Index, IndexMut};

use serde::{Deserialize, Deserializer};

/// A place in one kind of list.
pub trait Ix: Copy + Ord {
    /// `at` counts from 0.
    fn new(at: usize) -> Self;

    /// The place as a number, from 0.
    fn at(self) -> usize;
}

macro_rules! indices {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(usize);

        impl Ix for $name {
            fn new(at: usize) -> Self {
                Self(at)
            }

            fn at(self) -> usize {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

indices! {
    /// An expert of a manifest.
    ExpertIx,
    /// A modality of a manifest.
    ModalityIx,
    /// A task of a manifest.
    TaskIx,
    /// An encoder of a manifest.
    EncoderIx,
}

/// A list by index: `By<ExpertIx, f64>` holds a number for each expert. Only an `I` opens it; it is read as a slice
/// otherwise.
pub struct By<I, T> {
    items: Vec<T>,
    index: PhantomData<fn(I)>,
}

impl<I: Ix, T> By<I, T> {
    /// An item for each index under `count`.
    pub fn from_fn(count: usize, item: impl FnMut(I) -> T) -> Self {
        (0..count).map(I::new).map(item).collect()
    }

    /// `count` times the same item.
    pub fn filled(count: usize, item: T) -> Self
    where
        T: Clone,
    {
        vec![item; count].into()
    }

    /// An item for each item of a list by the same index.
    pub fn map<U>(&self, item: impl FnMut(&T) -> U) -> By<I, U> {
        self.items.iter().map(item).collect()
    }

    /// Every index, from the first.
    pub fn indices(&self) -> impl DoubleEndedIterator<Item = I> + use<I, T> {
        (0..self.items.len()).map(I::new)
    }

    /// Every item with its index.
    pub fn pairs(&self) -> impl DoubleEndedIterator<Item = (I, &T)> {
        self.items.iter().enumerate().map(|(at, item)| (I::new(at), item))
    }

    /// Every item with its index, each taken out of the list.
    pub fn into_pairs(self) -> impl Iterator<Item = (I, T)> {
        self.items.into_iter().enumerate().map(|(at, item)| (I::new(at), item))
    }

    /// The index of the first item for which this holds.
    pub fn find_ix(&self, holds: impl FnMut(&T) -> bool) -> Option<I> {
        self.items.iter().position(holds).map(I::new)
    }

    /// `None` if the list has no such index: it is one of another bundle.
    pub fn get(&self, index: I) -> Option<&T> {
        self.items.get(index.at())
    }

    /// Adds an item at the end.
    pub fn push(&mut self, item: T) {
        self.items.push(item);
    }
}

impl<I, T> From<Vec<T>> for By<I, T> {
    fn from(items: Vec<T>) -> Self {
        Self { items, index: PhantomData }
    }
}

impl<I, T, const N: usize> From<[T; N]> for By<I, T> {
    fn from(items: [T; N]) -> Self {
        Vec::from(items).into()
    }
}

impl<I, T> FromIterator<T> for By<I, T> {
    fn from_iter<S: IntoIterator<Item = T>>(items: S) -> Self {
        Vec::from_iter(items).into()
    }
}

impl<I: Ix, T> Index<I> for By<I, T> {
    type Output = T;

    fn index(&self, index: I) -> &T {
        &self.items[index.at()]
    }
}

impl<I: Ix, T> IndexMut<I> for By<I, T> {
    fn index_mut(&mut self, index: I) -> &mut T {
        &mut self.items[index.at()]
    }
}

impl<I, T> Deref for By<I, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<I, T> DerefMut for By<I, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<I, T> IntoIterator for By<I, T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a, I, T> IntoIterator for &'a By<I, T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<'a, I, T> IntoIterator for &'a mut By<I, T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter_mut()
    }
}

impl<I, T: Clone> Clone for By<I, T> {
    fn clone(&self) -> Self {
        self.items.clone().into()
    }
}

impl<I, T> Default for By<I, T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<I, T: PartialEq> PartialEq for By<I, T> {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl<I, T: Eq> Eq for By<I, T> {}

impl<I, T: std::fmt::Debug> std::fmt::Debug for By<I, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.items.fmt(f)
    }
}

impl<'de, I, T: Deserialize<'de>> Deserialize<'de> for By<I, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}
