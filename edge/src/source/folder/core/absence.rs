//! Which decided files may be forgotten, given what listings say of them.
//!
//! Absence is not deletion. A share that is mounted anew, a folder that was moved away for a while, a folder that cannot be
//! read at the moment: in all of them the files are not to be seen, and come back with the same names, sizes and times. What
//! is forgotten is decided again when it comes back, so forgetting needs evidence, and time.
//!
//! | what a listing says of a file | evidence |
//! | --- | --- |
//! | it stands there, or its folder (or one above it) cannot be listed | none: nothing is known |
//! | its folder is gone, is another one than it was, or holds nothing that was decided | weak: a share may be away |
//! | its folder is the one that it was, and holds other decided files | sure |
//!
//! A file is forgotten after [`KEPT`] of evidence without a break. Before that only where there are too many: of those that
//! are surely gone [`MOST_SURE`] are kept, of all that are absent [`MOST`], and the longest absent go first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an absent file is remembered.
pub(super) const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Files that are surely gone and still remembered, at most.
pub(super) const MOST_SURE: usize = 20_000;
/// Absent files that are remembered, at most.
pub(super) const MOST: usize = 200_000;

/// Tells a folder from another one of the same path: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::folder) struct FolderId(
    pub(in crate::source::folder) u64,
    pub(in crate::source::folder) u64,
);

/// What a listing says, in paths below the watched folder, whose own path is empty.
#[derive(Debug, Default)]
pub(in crate::source::folder) struct Survey {
    /// Pictures that are there, whether they could be looked at or not.
    pub(in crate::source::folder) present: BTreeSet<PathBuf>,
    /// Folders that are there; `None`: it could not be listed whole.
    pub(in crate::source::folder) folders: BTreeMap<PathBuf, Option<FolderId>>,
}

/// Since when a file is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Absent {
    since: Instant,
    is_sure: bool,
}

/// The folders that decided files were seen in.
#[derive(Debug, Default)]
pub(super) struct Folders(HashMap<PathBuf, FolderId>);

impl Folders {
    /// Takes in a survey, `decided` being the decided files: says since when each is absent, and gives those to be forgotten.
    pub(super) fn weigh<'a>(
        &mut self,
        survey: &Survey,
        decided: impl Iterator<Item = (&'a Path, &'a mut Option<Absent>)>,
        now: Instant,
    ) -> Vec<PathBuf> {
        let (present, absent): (Vec<_>, Vec<_>) =
            decided.partition(|(path, _)| survey.present.contains(*path));
        let mut used = BTreeSet::new();
        for (path, state) in present {
            *state = None;
            used.insert(folder_of(path));
        }
        let mut gone: Vec<(Absent, &Path)> = Vec::with_capacity(absent.len());
        for (path, state) in absent {
            let is_used = used.contains(folder_of(path));
            *state = self.evidence(survey, path, is_used).map(|is_sure| {
                let since = state.map_or(now, |absent| absent.since);
                Absent { since, is_sure }
            });
            gone.extend(state.map(|absent| (absent, path)));
        }
        self.0.retain(|folder, _| survey.folders.contains_key(folder));
        for folder in used {
            if let Some(Some(id)) = survey.folders.get(folder) {
                self.0.insert(folder.to_path_buf(), *id);
            }
        }
        forgotten(gone, now)
    }

    /// Whether a file that is not among those present is surely gone; `None`: nothing is known of it.
    fn evidence(&self, survey: &Survey, path: &Path, is_used: bool) -> Option<bool> {
        let folder = folder_of(path);
        // The folder itself, or else the nearest one above it that is there.
        let (nearest, listed) =
            folder.ancestors().find_map(|above| Some((above, survey.folders.get(above)?)))?;
        let id = (*listed)?;
        Some(is_used && nearest == folder && self.0.get(folder) == Some(&id))
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn forgotten(mut gone: Vec<(Absent, &Path)>, now: Instant) -> Vec<PathBuf> {
    gone.sort_by_key(|(absent, _)| absent.since);
    let sure = gone.iter().filter(|(absent, _)| absent.is_sure).count();
    let (mut too_many, mut too_many_sure) = (gone.len().saturating_sub(MOST), sure.saturating_sub(MOST_SURE));
    let mut forgotten = Vec::new();
    for (absent, path) in gone {
        let is_old = now.duration_since(absent.since) >= KEPT;
        let is_over = too_many > 0 || absent.is_sure && too_many_sure > 0;
        if is_old || is_over {
            too_many = too_many.saturating_sub(1);
            too_many_sure = too_many_sure.saturating_sub(usize::from(absent.is_sure));
            forgotten.push(path.to_path_buf());
        }
    }
    forgotten
}
