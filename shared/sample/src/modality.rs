//! Modalities: the kinds of things that a sample is made of, such as pictures.
//!
//! Each kind is one file behind the trait [`Modality`], and one line in [`MODALITIES`]. A bundle declares its modalities by
//! name and says of which kind each is ([`Spec`]); nothing outside this room knows one kind from another.
//!
//! ```text
//! bytes --read--> Value --prepare--> a model's input
//!                  | ^
//!           encode v | decode
//!                 Part ~~~line~~~
//! ```

use std::fmt;
use std::sync::Arc;

use millgate_array::{Array, ArrayError, Datatype, Scale};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::part::{Attributes, Limits, Part, Unreadable, Value};

pub mod image;

/// Every kind of modality.
pub static MODALITIES: &[&dyn Modality] = &[&image::Images];

/// Endings of all files that any kind of modality is found by, in lower case.
pub fn endings() -> impl Iterator<Item = &'static str> {
    let of = |modality: &&'static dyn Modality| modality.endings().iter().chain(modality.refused_endings());
    MODALITIES.iter().flat_map(of).copied()
}

/// Keys of a bundle's manifest that belong to one kind of modality.
pub type Table = toml::Table;

/// A kind of modality.
pub trait Modality: Send + Sync + fmt::Debug {
    /// The name of the kind, as manifests write it.
    fn kind(&self) -> &'static str;

    /// Endings of the files by which it is found in a folder, in lower case. What a file is, is told by its content.
    fn endings(&self) -> &'static [&'static str];

    /// Endings of files that are found as well, so that each is refused by name and none passed over.
    fn refused_endings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Names of the attributes that a part of this kind may have.
    fn attributes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks what a manifest declares of a modality: channels, settings.
    fn check(&self, spec: &Spec) -> Result<(), Refused>;

    /// Checks how a model takes a modality, and gives what makes its input. `shape` is without the batch axis,
    /// `preprocess` what the manifest says besides.
    fn input(&self, spec: &Spec, shape: &[usize], preprocess: &Table) -> Result<Arc<dyn Prepare>, Refused>;

    /// Reads files of one sample, all of this kind: what one shows may tell how another is to be read. Gives, of the first
    /// that fails, its index and why.
    fn read(&self, files: &[File<'_>], limits: &Limits) -> Result<Vec<Reading>, (usize, Unreadable)>;

    /// The smallest lossless form of a value for the line. `reference` is the value of the modality's reference, which the
    /// receiver has. `None` only with [`Effort::Quick`]: every form takes long to make.
    fn encode(&self, spec: &Spec, value: &Value, reference: Option<&Value>, effort: Effort) -> Option<Part> {
        let (_, _) = (reference, effort);
        Some(match value.original() {
            Some(file) => Part::file(&spec.name, file.clone()),
            None => Part::tensor(&spec.name, value.array()),
        })
    }

    /// The value that [`Modality::encode`] was given, of a part that is no file. `reference` must be the one that the
    /// sender used.
    fn decode(
        &self,
        spec: &Spec,
        part: &Part,
        reference: Option<&Value>,
        limits: &Limits,
    ) -> Result<Value, Unreadable> {
        let (_, _) = (spec, reference);
        part.read_tensor(limits).map(Value::from)
    }

    /// The regions of a value that its part's attributes ask for, `[left, top, width, height]`; none: all of it. The error is
    /// of the attributes.
    fn regions(&self, value: &Value, attributes: &Attributes) -> Result<Vec<[u32; 4]>, Unreadable> {
        let (_, _) = (value, attributes);
        Ok(Vec::new())
    }

    /// A region of a value; `None` if that is not inside, or the kind has none.
    fn cut(&self, value: &Value, region: [u32; 4]) -> Option<Value> {
        let (_, _) = (value, region);
        None
    }

    /// A smaller value of which [`Prepare::prepare`] makes the same input; `shape` is what [`Prepare::reduced`] gave.
    fn reduce(&self, value: &Value, shape: &[usize]) -> Option<Value> {
        let (_, _) = (value, shape);
        None
    }
}

/// Makes a model's input of values of one modality.
pub trait Prepare: Send + Sync + fmt::Debug {
    /// The input, its batch axis of 1 first.
    fn prepare(&self, value: &Value) -> Result<Array, ArrayError>;

    /// What the input holds.
    fn datatype(&self) -> Datatype {
        Datatype::Fp32
    }

    /// The shape to which [`Modality::reduce`] may bring a value before it is sent; `None` if it is best sent as it is.
    fn reduced(&self, value: &Value) -> Option<Vec<usize>> {
        let _ = value;
        None
    }

    /// What is lost of a value on its way to the input, if the reader of a decision should know: a word for machines, and one
    /// for people, which goes on after the modality's name.
    fn lost(&self, value: &Value) -> Option<(&'static str, String)> {
        let _ = value;
        None
    }

    /// The scale by which the input's numbers go into 8 bits without loss, if there is one.
    fn scale(&self) -> Option<Scale> {
        None
    }
}

/// A modality as a bundle declares it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub name: String,
    /// A kind's name; see [`Modality::kind`].
    pub kind: String,
    /// What its numbers mean, for people.
    pub unit: String,
    /// Numbers at each place or time: 1 of a grey picture, 3 of a coloured one.
    #[serde(default = "one")]
    pub channels: usize,
    /// Another modality of the bundle, of the same kind, that values of this one resemble. On the line they may be coded
    /// against it.
    pub reference: Option<String>,
    /// Keys of its kind.
    #[serde(default)]
    pub settings: Table,
    /// Filled in by [`Spec::resolve`].
    #[serde(skip, default = "unknown")]
    modality: &'static dyn Modality,
}

fn one() -> usize {
    1
}

impl Spec {
    /// Finds the modality's kind among `kinds`, and has it check the rest.
    pub fn resolve(&mut self, kinds: &[&'static dyn Modality]) -> Result<(), Refused> {
        let found = kinds.iter().find(|modality| modality.kind() == self.kind);
        let Some(found) = found else {
            let known: Vec<&str> = kinds.iter().map(|modality| modality.kind()).collect();
            let message = format!("`{}` is not a kind of modality (known: {})", self.kind, known.join(", "));
            return Err(Refused::new("kind", message));
        };
        self.modality = *found;
        self.modality.check(self)
    }

    /// The modality's kind, once it was found.
    pub fn modality(&self) -> &'static dyn Modality {
        self.modality
    }
}

/// Why a part of a manifest is not what its modality takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Below what was checked: `shape`, `preprocess.mean`.
    pub key: String,
    pub message: String,
}

impl Refused {
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// Reads a kind's keys; what is wrong is named under `key`.
pub fn keys<T: DeserializeOwned>(key: &str, table: &Table) -> Result<T, Refused> {
    serde_path_to_error::deserialize(toml::Value::Table(table.clone())).map_err(|error| {
        let path = error.path().to_string();
        let key = if path == "." { key.to_owned() } else { format!("{key}.{path}") };
        Refused::new(key, error.inner().message().trim().replace('\n', ", "))
    })
}

/// A file to read.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    pub spec: &'a Spec,
    pub part: &'a Part,
}

/// What a file gave.
#[derive(Debug, Clone)]
pub struct Reading {
    pub value: Value,
    /// What had to be assumed: a word for machines, and one for people.
    pub remarks: Vec<(&'static str, String)>,
}

/// Time that making a form for the line may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Take as long as the smallest form needs.
    Full,
    /// Take next to no time.
    Quick,
}

/// The kind of a [`Spec`] before it was found.
#[derive(Debug)]
struct Unknown;

fn unknown() -> &'static dyn Modality {
    &Unknown
}

impl Unknown {
    const WHY: &str = "its kind is not known";
}

impl Modality for Unknown {
    fn kind(&self) -> &'static str {
        ""
    }

    fn endings(&self) -> &'static [&'static str] {
        &[]
    }

    fn check(&self, _: &Spec) -> Result<(), Refused> {
        Err(Refused::new("kind", Self::WHY))
    }

    fn input(&self, _: &Spec, _: &[usize], _: &Table) -> Result<Arc<dyn Prepare>, Refused> {
        Err(Refused::new("modality", Self::WHY))
    }

    fn read(&self, _: &[File<'_>], _: &Limits) -> Result<Vec<Reading>, (usize, Unreadable)> {
        Err((0, Unreadable::new("modality", "unknown_modality", Self::WHY)))
    }
}

/// What prepares nothing: an input of a manifest before its modality was asked.
#[derive(Debug)]
struct Unprepared;

impl Prepare for Unprepared {
    fn prepare(&self, _: &Value) -> Result<Array, ArrayError> {
        Err(ArrayError::Join("the manifest was not checked"))
    }
}

/// Stands where a manifest is read, until its modality says how an input is made.
pub fn unprepared() -> Arc<dyn Prepare> {
    Arc::new(Unprepared)
}
