//! What each step does to the tables, the pictures and the tests. Blocks; one at a time.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_shared::digest::sha256_hex;
use millgate_shared::{bounded, files};

use super::config::LabelsConfig;
use super::counts::Counts;
use super::keeper::{Amended, Noted};
use super::kept::{Asked, Class, Kept, Page, Picture, Refusal, Row, Said, Say};
use super::state::{self, State};
use super::store::{BYTES, DRIFT, Failed, NEXT, Store, Tables};
use crate::drift::{Drift, Kind, Observed, novelty_rate};

/// The database's name in the state directory.
pub(crate) const FILE_NAME: &str = "labels.redb";
/// The folder of pictures in the state directory.
pub(crate) const PICTURES: &str = "pictures";
/// How long the lock of a process that was killed may linger.
const LEFTOVER: Duration = Duration::from_secs(2);
/// Words on one decision.
const MOST_SAID: u32 = 64;
/// Decisions on one page.
pub(crate) const MOST_LISTED: usize = 1000;

/// Why the book cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{}: is in use by a running agent", .0.display())]
    InUse(PathBuf),
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
}

/// Everything that is kept.
#[derive(Debug)]
pub(crate) struct Book {
    dir: PathBuf,
    config: LabelsConfig,
    store: Store,
    drift: Drift,
    counts: Counts,
}

impl Book {
    /// As [`Self::open`], and waits a little for a process that was killed a moment ago to give up its lock.
    pub(super) fn open_soon(dir: &Path, config: &LabelsConfig, counts: &Counts) -> Result<Self, OpenError> {
        let until = std::time::Instant::now() + LEFTOVER;
        loop {
            match Self::open(dir, config, counts) {
                Err(OpenError::InUse(_)) if std::time::Instant::now() < until => {
                    std::thread::sleep(LEFTOVER / 20);
                }
                opened => return opened,
            }
        }
    }

    /// Opens it in the state directory, or begins one; what cannot be read is set aside.
    pub(crate) fn open(dir: &Path, config: &LabelsConfig, counts: &Counts) -> Result<Self, OpenError> {
        let path = dir.join(FILE_NAME);
        let unusable = |why: String| OpenError::Unusable { path: path.clone(), why };
        let pictures = dir.join(PICTURES);
        files::make_private_folder(&pictures).map_err(|error| unusable(error.to_string()))?;
        let store = match Store::open(&path) {
            Err(error) if error.is_in_use() => return Err(OpenError::InUse(path)),
            Err(error) if error.is_of_machine() => return Err(unusable(error.to_string())),
            Err(error) => {
                let aside = files::set_aside(&path).map_err(|error| unusable(error.to_string()))?;
                tracing::error!(file = %path.display(), ?aside, %error, "the labels are set aside and begun anew");
                Store::open(&path).map_err(|error| unusable(error.to_string()))?
            }
            Ok(store) => store,
        };
        let drift = store.write(|tables| tables.one::<Drift>(DRIFT));
        let drift = drift.unwrap_or_else(|error| {
            tracing::error!(%error, "how the tests of errors and drift stood is not known; they begin anew");
            None
        });
        let (config, counts) = (config.clone(), counts.clone());
        let this = Self { dir: dir.to_path_buf(), config, store, drift: drift.unwrap_or_default(), counts };
        this.sweep(&pictures);
        this.counts.show(&this.drift);
        Ok(this)
    }

    /// Removes pictures that nothing leads to: a kill came between them and their commit.
    fn sweep(&self, pictures: &Path) {
        let known = self.store.read(|read| {
            let mut known = BTreeSet::new();
            for class in Class::ALL {
                for id in read.shelved(class)? {
                    let kept = read.decision(&id)?;
                    known.extend(kept.into_iter().flat_map(|kept| kept.pictures).map(|picture| picture.file));
                }
            }
            Ok(known)
        });
        let (Ok(known), Ok(found)) = (known, std::fs::read_dir(pictures)) else { return };
        for file in found.flatten() {
            if file.file_name().to_str().is_some_and(|name| !known.contains(name)) {
                let _stays = std::fs::remove_file(file.path()).is_err();
            }
        }
    }

    /// Notes decisions and what the pool said of some, in one commit.
    pub(super) fn note(&mut self, steps: Vec<Step>) -> Result<(), Failed> {
        if steps.is_empty() {
            return Ok(());
        }
        let Self { dir, config, store, drift, counts } = self;
        let (mut gone, mut was) = (Vec::new(), drift.clone());
        let bytes = store.write(|tables| {
            for step in steps {
                match step {
                    Step::Note(noted) => note(tables, dir, drift, *noted)?,
                    Step::Audited { id, label } => audited(tables, drift, &id, label)?,
                    Step::Amended(amended) => become_another(tables, amended)?,
                }
            }
            let bytes = make_room(tables, config, &mut gone)?;
            tables.set_one(DRIFT, drift)?;
            Ok(bytes)
        });
        match bytes {
            Ok(bytes) => {
                counts.picture_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            Err(error) => {
                std::mem::swap(drift, &mut was);
                return Err(error);
            }
        }
        self.remove(&gone);
        self.counts.show(&self.drift);
        self.tell();
        Ok(())
    }

    /// Keeps what a person says.
    pub(crate) fn label(&mut self, say: Say) -> Result<Row, Refusal> {
        say.check()?;
        let most = self.config.remember;
        let (id, before) = (say.id.clone(), self.drift.clone());
        let drift = &mut self.drift;
        let done = self.store.write(|tables| {
            let Some(mut kept) = tables.decision(&say.id)? else {
                return Ok(Err(Refusal::Unknown(say.id)));
            };
            let known = tables.one::<Vec<String>>(&task_name(&kept.task))?.unwrap_or_default();
            if !say.is_new && !known.contains(&say.label) {
                let message = format!(
                    "`{}` is not a label of task `{}` (it has {}); a new class is given with `--new` (`is_new`)",
                    say.label,
                    kept.task,
                    known.join(", ")
                );
                return Ok(Err(Refusal::Bad { field: "label".to_owned(), message }));
            }
            let at = tables.said_of(&say.id)?;
            if at >= MOST_SAID {
                let message = format!("{MOST_SAID} labels were given to it already");
                return Ok(Err(Refusal::Bad { field: "id".to_owned(), message }));
            }
            if at == 0 && tables.count(true)? >= most {
                return Ok(Err(Refusal::Full(most)));
            }
            let Say { id, label, is_new: _, who, note } = say;
            let is_new = !known.contains(&label);
            let agreed = label == kept.label;
            tables.say(&id, at, &Said { label, is_new, who, note, at: jiff::Timestamp::now().to_string() })?;
            judge(drift, &mut kept, !agreed, true);
            kept.class = kept.class.map(|_| Class::Labelled);
            tables.put(&kept, true)?;
            tables.set_one(DRIFT, drift)?;
            Ok(Ok((kept, agreed)))
        });
        match done.map_err(|error| Refusal::Failed(error.to_string())).and_then(|done| done) {
            Ok((kept, agreed)) => {
                self.counts.labelled(self.drift.name(kept.source()), agreed);
                self.counts.show(&self.drift);
                self.tell();
                let said = self.store.read(|read| read.said(&id));
                Ok(Row { decision: kept, said: said.map_err(|error| Refusal::Failed(error.to_string()))? })
            }
            Err(refusal) => {
                self.drift = before;
                Err(refusal)
            }
        }
    }

    /// Lists decisions by id, which is by age.
    pub(crate) fn list(&self, asked: &Asked) -> Result<Page, Refusal> {
        let most = if asked.most == 0 { MOST_LISTED } else { asked.most.min(MOST_LISTED) };
        let page = self.store.read(|read| {
            let mut ids = match asked.open {
                false => read.labelled_after(&asked.after, most + 1)?,
                true => {
                    let mut ids = read.shelved(Class::Doubt)?;
                    ids.retain(|id| *id > asked.after);
                    ids.truncate(most + 1);
                    ids
                }
            };
            let has_more = ids.len() > most;
            ids.truncate(most);
            let mut page = Page { next: ids.last().filter(|_| has_more).cloned(), rows: Vec::new() };
            for id in ids {
                if let Some(decision) = read.decision(&id)? {
                    page.rows.push(Row { decision, said: read.said(&id)? });
                }
            }
            Ok(page)
        });
        page.map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// Gives one decision with all that was said of it.
    pub(super) fn row(&self, id: &str) -> Result<Row, Refusal> {
        let row = self.store.read(|read| {
            let Some(decision) = read.decision(id)? else { return Ok(None) };
            Ok(Some(Row { decision, said: read.said(id)? }))
        });
        let row = row.map_err(|error| Refusal::Failed(error.to_string()))?;
        row.ok_or_else(|| Refusal::Unknown(id.to_owned()))
    }

    /// Reads the file that is kept of a decision's modality.
    pub(super) fn picture(&self, id: &str, modality: &str) -> Result<Vec<u8>, Refusal> {
        let row = self.row(id)?;
        let picture = row.decision.pictures.iter().find(|picture| picture.modality == modality);
        let picture = picture.ok_or_else(|| Refusal::Bad {
            field: "modality".to_owned(),
            message: format!("no file of `{modality}` is kept of this decision"),
        })?;
        let path = self.dir.join(PICTURES).join(&picture.file);
        bounded::read(&path, picture.bytes)
            .map_err(|error| Refusal::Failed(format!("{}: {error}", picture.file)))
    }

    /// Forgets decisions with their pictures and all that was said of them; gives how many there were.
    pub(crate) fn forget(&mut self, ids: &[String]) -> Result<usize, Refusal> {
        let mut gone = Vec::new();
        let done = self.store.write(|tables| {
            let mut forgotten = 0;
            for id in ids {
                let Some(kept) = tables.decision(id)? else { continue };
                take_off(tables, &kept)?;
                tables.remove(&kept)?;
                gone.extend(kept.pictures.into_iter().map(|picture| picture.file));
                forgotten += 1;
            }
            Ok(forgotten)
        });
        self.remove(&gone);
        done.map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// Begins the tests of a source anew, or all; gives how many sources there were.
    pub(crate) fn reset(&mut self, source: Option<&str>) -> Result<usize, Refusal> {
        let reset = self.drift.reset(source);
        let drift = &self.drift;
        let written = self.store.write(|tables| tables.set_one(DRIFT, drift));
        self.counts.show(&self.drift);
        self.tell();
        written.map(|()| reset).map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// How things stand.
    pub(crate) fn state(&self) -> State {
        State::of(&self.drift)
    }

    /// Writes down how things stand, for commands that look beside a running agent.
    fn tell(&self) {
        if let Err(error) = state::write(&self.dir, &self.state()) {
            tracing::debug!(%error, "how errors and drift stand cannot be written down");
        }
    }

    fn remove(&self, pictures: &[String]) {
        for file in pictures {
            let _swept_later = std::fs::remove_file(self.dir.join(PICTURES).join(file)).is_err();
        }
    }
}

/// One of the steps of a commit.
#[derive(Debug)]
pub(super) enum Step {
    Note(Box<Noted>),
    Audited { id: String, label: String },
    Amended(Amended),
}

fn task_name(task: &str) -> String {
    format!("labels of {task}")
}

fn note(tables: &mut Tables<'_>, dir: &Path, drift: &mut Drift, noted: Noted) -> Result<(), Failed> {
    let Noted { mut kept, class, parts, labels, novelty } = noted;
    let name = task_name(&kept.task);
    if tables.one::<Vec<String>>(&name)?.as_ref() != Some(&labels) {
        tables.set_one(&name, &labels)?;
    }
    let before = tables.decision(&kept.id)?;
    let is_labelled = tables.said_of(&kept.id)? > 0;
    match before {
        // An amended decision, or the same one again after a kill.
        Some(before) => {
            let Kept { number, pictures, class, is_error, pool, at, is_drawn, is_local, .. } = before;
            let is_local = is_local && kept.is_local;
            kept = Kept { number, pictures, class, is_error, pool, at, is_drawn, is_local, ..kept };
            return tables.put(&kept, is_labelled);
        }
        None => {
            kept.number = tables.one::<u64>(NEXT)?.unwrap_or(0);
            tables.set_one(NEXT, &(kept.number + 1))?;
        }
    }
    for part in &parts {
        match shelve(dir, &kept.id, &part.modality, &part.bytes) {
            Ok(picture) => kept.pictures.push(picture),
            Err(error) => tracing::warn!(id = kept.id, %error, "a picture cannot be kept"),
        }
    }
    kept.class = class.filter(|_| !kept.pictures.is_empty());
    let bytes = tables.one::<u64>(BYTES)?.unwrap_or(0) + kept.picture_bytes();
    tables.set_one(BYTES, &bytes)?;
    tables.put(&kept, is_labelled)?;
    if let Some(novelty) = novelty {
        let rate = novelty_rate(novelty.bound, novelty.calibration_samples, novelty.detectors);
        let (source, bundle) = (kept.source().to_owned(), &*kept.bundle);
        let observed =
            Observed { source: &source, bundle, asked: novelty.bound, rate, is_hit: novelty.is_hit };
        if drift.observe(Kind::Novelty, observed) {
            tracing::error!(
                source,
                rate,
                "alarm: samples are unlike the known ones more often than the bound of novelty allows; look at the \
                 camera and its light, or add what is new to the bundle"
            );
        }
    }
    Ok(())
}

/// Writes a picture of its own file.
fn shelve(dir: &Path, id: &str, modality: &str, bytes: &[u8]) -> io::Result<Picture> {
    let plain = |text: &str| {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        !text.is_empty() && text.len() <= 64 && text.chars().all(is_plain)
    };
    if !plain(id) || !plain(modality) {
        return Err(io::Error::other(format!("`{id}` and `{modality}` are no name of a file")));
    }
    let file = format!("{id}.{modality}.{}", ending(bytes));
    files::replace(&dir.join(PICTURES).join(&file), bytes, files::PRIVATE)?;
    Ok(Picture { modality: modality.to_owned(), file, bytes: bytes.len() as u64, sha256: sha256_hex(bytes) })
}

/// What such files are called, by their first bytes.
fn ending(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [0xff, 0xd8, ..] => "jpg",
        [b'B', b'M', ..] => "bmp",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "tif",
        [b'R', b'I', b'F', b'F', ..] => "webp",
        [b'P', b'2' | b'5', ..] => "pgm",
        [b'P', b'3' | b'6', ..] => "ppm",
        _ => "bin",
    }
}

fn audited(tables: &mut Tables<'_>, drift: &mut Drift, id: &str, label: String) -> Result<(), Failed> {
    let Some(mut kept) = tables.decision(id)? else { return Ok(()) };
    let is_labelled = tables.said_of(id)? > 0;
    let disagrees = label != kept.label;
    kept.pool = Some(label);
    if disagrees && kept.class == Some(Class::Sample) {
        kept.class = Some(Class::Doubt);
    }
    judge(drift, &mut kept, disagrees, false);
    tables.put(&kept, is_labelled)
}

fn become_another(tables: &mut Tables<'_>, amended: Amended) -> Result<(), Failed> {
    let Amended { id, label, probability, disposition, state } = amended;
    let Some(kept) = tables.decision(&id)? else { return Ok(()) };
    let is_labelled = tables.said_of(&id)? > 0;
    tables.put(&Kept { label, probability, disposition, state, is_local: false, ..kept }, is_labelled)
}

/// A local answer that was drawn is found right or wrong. The first word is an observation; a person's later one corrects the
/// estimate.
fn judge(drift: &mut Drift, kept: &mut Kept, is_error: bool, by_person: bool) {
    if !(kept.is_local && kept.is_drawn) {
        return;
    }
    let source = kept.source().to_owned();
    match kept.is_error {
        None => {
            kept.is_error = Some(is_error);
            let (bundle, risk) = (&*kept.bundle, kept.risk);
            let observed = Observed { source: &source, bundle, asked: risk, rate: risk, is_hit: is_error };
            if drift.observe(Kind::Error, observed) {
                tracing::error!(
                    source,
                    risk,
                    "alarm: local answers are wrong more often than the bundle certified; label what is open \
                     (`millgate-edge label list --open`), and certify or improve the bundle"
                );
            }
        }
        Some(before) if by_person && before != is_error => {
            kept.is_error = Some(is_error);
            drift.correct(&source, &kept.bundle, is_error);
        }
        Some(_) => {}
    }
}

/// Gives up what is over the bounds; gives the bytes that are left.
fn make_room(tables: &mut Tables<'_>, config: &LabelsConfig, gone: &mut Vec<String>) -> Result<u64, Failed> {
    let oldest = jiff::Timestamp::now().as_millisecond()
        - i64::try_from(config.keep_age.as_millis()).unwrap_or(i64::MAX / 2);
    for class in [Class::Sample, Class::Doubt] {
        while let Some(id) = tables.oldest_of(class)? {
            let Some(kept) = tables.decision(&id)? else { break };
            if kept.at >= oldest {
                break;
            }
            give_up(tables, kept, gone)?;
        }
    }
    while tables.one::<u64>(BYTES)?.unwrap_or(0) > config.keep_bytes {
        let Some(id) = tables.first_on_shelf()? else { break };
        let Some(kept) = tables.decision(&id)? else { break };
        give_up(tables, kept, gone)?;
    }
    // Those that are labelled have bounds of their own.
    let mut unlabelled = tables.count(false)?.saturating_sub(tables.count(true)?);
    while unlabelled > config.remember {
        let Some(id) = tables.oldest()? else { break };
        let Some(kept) = tables.decision(&id)? else { break };
        take_off(tables, &kept)?;
        tables.remove(&kept)?;
        gone.extend(kept.pictures.into_iter().map(|picture| picture.file));
        unlabelled -= 1;
    }
    Ok(tables.one::<u64>(BYTES)?.unwrap_or(0))
}

/// Gives the pictures of a decision up, and keeps the rest of it.
fn give_up(tables: &mut Tables<'_>, mut kept: Kept, gone: &mut Vec<String>) -> Result<(), Failed> {
    take_off(tables, &kept)?;
    let is_labelled = tables.said_of(&kept.id)? > 0;
    gone.extend(std::mem::take(&mut kept.pictures).into_iter().map(|picture| picture.file));
    kept.class = None;
    tables.put(&kept, is_labelled)
}

fn take_off(tables: &mut Tables<'_>, kept: &Kept) -> Result<(), Failed> {
    let bytes = tables.one::<u64>(BYTES)?.unwrap_or(0).saturating_sub(kept.picture_bytes());
    tables.set_one(BYTES, &bytes)
}
