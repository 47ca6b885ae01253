//! `type = "folder"` in `[[sources]]`.

use std::path::PathBuf;
use std::time::Duration;

use millgate_shared::image::BitDepth;
use millgate_shared::modality;
use serde::Deserialize;

use super::tidy::Tidier;
use super::{check, start};
use crate::finding::Item;
use crate::input::Naming;
use crate::settings::{Refused, not_zero, refuse};
use crate::source::{SourceSettings, Starting, Tidies};
use crate::wishes::SourceWish;

/// A folder that a camera or an inspection machine writes pictures into.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// Unique; `sample.source` of its decisions.
    pub name: String,
    pub path: PathBuf,
    /// Takes folders below it too; links to folders are not followed.
    #[serde(default = "yes")]
    pub recursive: bool,
    /// File names taken, with `*` and `?`; case does not matter. Hidden files and templates never are. By default also
    /// those of pictures that are refused, so that each is named.
    #[serde(default = "default_patterns")]
    pub patterns: Vec<String>,
    /// The task that they are decided for. `None`: the agent's.
    #[serde(default)]
    pub task: Option<String>,
    /// Products (`deeppcb`) and labels (`deeppcb/open`) that may be the answer; empty: all of the task's.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Accepted error rate among its samples that stay local. `None`: `offload.risk`.
    #[serde(default)]
    pub risk: Option<f64>,
    /// Share of known samples that may be called unknown. `None`: `recipe.false_alarms`.
    #[serde(default)]
    pub false_alarms: Option<f64>,
    /// What is looked at in its pictures, each `[left, top, width, height]` in pixels; empty: all of each.
    #[serde(default)]
    pub regions: Vec<[u32; 4]>,
    /// Side of the tiles that are looked at one by one, in pixels. `None`: no tiles.
    #[serde(default)]
    pub tile: Option<u32>,
    /// The camera is stuck, and its picture unknown, once the same bytes have come so often in a row; 0: that is not looked at.
    #[serde(default)]
    pub stuck_after: u32,
    /// How many bits of 16-bit samples count, 8 to 16. `None`: the file says it, or else its largest sample.
    #[serde(default)]
    pub bit_depth: Option<u32>,
    /// Size and time of change must have been the same this long for a file that was not seen being closed (network
    /// shares report no closing).
    #[serde(default = "default_settle", with = "humantime_serde")]
    pub settle: Duration,
    /// How often the whole folder is read again, for what no event has told of.
    #[serde(default = "default_rescan", with = "humantime_serde")]
    pub rescan: Duration,
    /// A picture that is not whole is given this long, unchanged, to be completed before it is called an error.
    #[serde(default = "default_patience", with = "humantime_serde")]
    pub patience: Duration,
    #[serde(default = "default_existing")]
    pub existing: Existing,
    #[serde(default = "default_templates")]
    pub templates: Templates,
    /// "keep", "delete" or "move:DIR": what becomes of a file that all sinks have acknowledged.
    #[serde(default = "default_after")]
    pub after: After,
}

/// Files that are there when the agent starts and that it has not decided in an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    Take,
    /// Left alone until they change.
    Skip,
}

/// `part.template.png` beside `part.png`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Templates {
    /// Used where there is one when the picture is ready.
    Optional,
    /// A picture waits `settle` for its template before it is decided without.
    Wait,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum After {
    Keep,
    Delete,
    /// Into this folder, which must be on the same file system and outside of the watched one.
    Move(PathBuf),
}

impl TryFrom<String> for After {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "keep" => Ok(Self::Keep),
            "delete" => Ok(Self::Delete),
            _ => match text.strip_prefix("move:") {
                Some(dir) if !dir.is_empty() => Ok(Self::Move(PathBuf::from(dir))),
                _ => Err(format!("`{text}` is none of keep, delete, move:DIR")),
            },
        }
    }
}

fn yes() -> bool {
    true
}

fn default_patterns() -> Vec<String> {
    modality::endings().map(|ending| format!("*.{ending}")).collect()
}

fn default_settle() -> Duration {
    Duration::from_millis(500)
}

fn default_rescan() -> Duration {
    Duration::from_secs(5)
}

fn default_patience() -> Duration {
    Duration::from_secs(5)
}

fn default_existing() -> Existing {
    Existing::Take
}

fn default_templates() -> Templates {
    Templates::Optional
}

fn default_after() -> After {
    After::Keep
}

impl FolderConfig {
    /// `bit_depth`, as pictures are read by it.
    fn parsed_bit_depth(&self) -> Result<Option<BitDepth>, String> {
        let parse = |bits: u32| match u8::try_from(bits) {
            Ok(bits) => bits.try_into(),
            Err(_) => Err(format!("{bits} is not of 8 to 16 bits")),
        };
        self.bit_depth.map(parse).transpose()
    }

    /// Gives one with the defaults of all that has one.
    pub fn new(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            path,
            recursive: yes(),
            patterns: default_patterns(),
            task: None,
            labels: Vec::new(),
            risk: None,
            false_alarms: None,
            regions: Vec::new(),
            tile: None,
            stuck_after: 0,
            bit_depth: None,
            settle: default_settle(),
            rescan: default_rescan(),
            patience: default_patience(),
            existing: default_existing(),
            templates: default_templates(),
            after: default_after(),
        }
    }
}

impl SourceSettings for FolderConfig {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), Refused> {
        if self.patterns.is_empty() || self.patterns.iter().any(String::is_empty) {
            return refuse("patterns", "holds no pattern, or an empty one");
        }
        let refuse_depth = |message| Refused { key: "bit_depth".to_owned(), message };
        self.parsed_bit_depth().map_err(refuse_depth)?;
        not_zero("settle", self.settle)?;
        not_zero("rescan", self.rescan)?;
        self.wish().check()?;
        if let After::Move(dir) = &self.after
            && (*dir == self.path || (self.recursive && dir.starts_with(&self.path)))
        {
            return refuse("after", format!("{} is inside the watched folder", dir.display()));
        }
        Ok(())
    }

    fn bit_depth(&self) -> Option<BitDepth> {
        self.parsed_bit_depth().ok().flatten()
    }

    fn wish(&self) -> SourceWish {
        SourceWish {
            task: self.task.clone(),
            labels: self.labels.clone(),
            risk: self.risk,
            false_alarms: self.false_alarms,
            regions: self.regions.clone(),
            tile: self.tile,
            stuck_after: self.stuck_after,
        }
    }

    fn look_there(&self) -> Vec<Item> {
        check::look(self)
    }

    fn tidies(&self, naming: &Naming) -> Option<Box<dyn Tidies>> {
        let (root, after, naming) = (self.path.clone(), self.after.clone(), naming.clone());
        (after != After::Keep).then(|| Box::new(Tidier { root, after, naming }) as Box<dyn Tidies>)
    }

    fn start(&self, starting: Starting) {
        start(self.clone(), starting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{shipped, shown};

    #[test]
    fn the_shipped_example_shows_every_key_with_its_default() {
        let [folder] = &shown::<FolderConfig>("sources", "folder")[..] else { panic!("not one folder") };
        let FolderConfig { bit_depth, task, labels, risk, false_alarms, regions, tile, stuck_after, .. } =
            folder.clone();
        assert_eq!(bit_depth, Some(12));
        assert_eq!((&task, &*labels), (&Some("inspect".to_owned()), &["deeppcb".to_owned()][..]));
        assert_eq!((risk, false_alarms), (Some(0.02), Some(0.02)));
        assert_eq!((&regions[..], tile), (&[[0, 0, 1280, 1024]][..], Some(640)));
        assert_eq!(stuck_after, 3);
        let plain = FolderConfig::new(&folder.name, folder.path.clone());
        let shown =
            FolderConfig { bit_depth, task, labels, risk, false_alarms, regions, tile, stuck_after, ..plain };
        assert_eq!(*folder, shown);
        let text = shipped();
        for key in ["recursive", "patterns", "settle", "rescan", "patience", "existing", "templates", "after"]
        {
            assert!(text.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
        }
    }
}
