//! A table with a row for each sample, as CSV or as JSONL; paths are taken from the table's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millgate_base::bounded;
use serde_json::Value;

use super::{Asked, DataError, Item, label};

/// Most rows of a table.
const MAX_ROWS: u64 = 5_000_000;

/// The columns of one row, by name.
type Row = BTreeMap<String, String>;

pub(super) fn read_csv(path: &Path, asked: &Asked<'_>) -> Result<Vec<Item>, DataError> {
    let text = text(path)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let wrong = |error: csv::Error| {
        let row = error.position().map_or(1, csv::Position::line);
        DataError::Row { path: path.to_path_buf(), row, key: "row".to_owned(), message: error.to_string() }
    };
    let header: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
    let table = Table { path, asked };
    for (at, name) in header.iter().enumerate() {
        table.check_column(name, None)?;
        if header[..at].contains(name) {
            return Err(table.column(name, "stands twice"));
        }
    }
    table.check_needed(header.iter().map(String::as_str), None)?;
    let mut items = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let row = record.position().map_or(0, csv::Position::line);
        let cells = header.iter().cloned().zip(record.iter().map(str::to_owned));
        items.push(table.item(row, cells.filter(|(_, cell)| !cell.is_empty()).collect())?);
        table.check_count(items.len())?;
    }
    Ok(items)
}

pub(super) fn read_jsonl(path: &Path, asked: &Asked<'_>) -> Result<Vec<Item>, DataError> {
    let text = text(path)?;
    let table = Table { path, asked };
    let mut items = Vec::new();
    for (row, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let object: BTreeMap<String, Value> = serde_json::from_str(line)
            .map_err(|error| table.row(row, "row", format!("is not a JSON object: {error}")))?;
        let mut cells = Row::new();
        for (key, value) in object {
            table.check_column(&key, Some(row))?;
            let cell = match value {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                other => return Err(table.row(row, &key, format!("is {other}, not a text"))),
            };
            cells.insert(key, cell);
        }
        table.check_needed(cells.keys().map(String::as_str), Some(row))?;
        items.push(table.item(row, cells)?);
        table.check_count(items.len())?;
    }
    Ok(items)
}

fn text(path: &Path) -> Result<String, DataError> {
    let io = |source| DataError::Io { path: path.to_path_buf(), source };
    bounded::read_to_string(path, bounded::TABLE).map_err(io)
}

struct Table<'a> {
    path: &'a Path,
    asked: &'a Asked<'a>,
}

impl Table<'_> {
    /// Columns of the picture itself.
    fn mains(&self) -> [&str; 3] {
        [self.asked.naming.main(), "image", "path"]
    }

    fn check_column(&self, name: &str, row: Option<u64>) -> Result<(), DataError> {
        let mut others = ["label", "group", "split"].into_iter().chain(self.asked.naming.beside());
        if self.mains().contains(&name) || others.any(|known| known == name) {
            return Ok(());
        }
        let others: Vec<&str> = self.asked.naming.beside().collect();
        let message = format!(
            "is not a column of labelled data: it has `{}` (or `path`), `label`, `group`, `split`{}",
            self.asked.naming.main(),
            others.iter().map(|name| format!(", `{name}`")).collect::<String>()
        );
        Err(match row {
            Some(row) => self.row(row, name, message),
            None => self.column(name, &message),
        })
    }

    fn check_needed<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Clone,
        row: Option<u64>,
    ) -> Result<(), DataError> {
        let refuse = |key: &str, message: &str| match row {
            Some(row) => self.row(row, key, message.to_owned()),
            None => self.column(key, message),
        };
        let mains = names.clone().filter(|name| self.mains().contains(name)).count();
        if mains == 0 {
            return Err(refuse(self.asked.naming.main(), "is missing: it names the picture"));
        }
        if mains > 1 {
            return Err(refuse("path", "stands beside another column that names the picture"));
        }
        if !names.into_iter().any(|name| name == "label") {
            return Err(refuse("label", "is missing"));
        }
        Ok(())
    }

    fn check_count(&self, count: usize) -> Result<(), DataError> {
        match count as u64 > MAX_ROWS {
            true => Err(self.column("row", &format!("there are more than {MAX_ROWS}"))),
            false => Ok(()),
        }
    }

    fn item(&self, row: u64, mut cells: Row) -> Result<Item, DataError> {
        let main = self.mains().into_iter().find_map(|key| Some((key, cells.remove(key)?)));
        let Some((key, name)) = main else {
            return Err(self.row(row, self.asked.naming.main(), "is empty: it names the picture".to_owned()));
        };
        let picture = self.file(row, key, &name)?;
        // What stands beside the file counts, unless the row itself names it.
        let mut parts = self.asked.naming.parts(&picture);
        for modality in self.asked.naming.beside() {
            if let Some(file) = cells.remove(modality) {
                parts.insert(modality.to_owned(), self.file(row, modality, &file)?);
            }
        }
        let named = cells.remove("label").ok_or_else(|| self.row(row, "label", "is empty".to_owned()))?;
        let label = label(&named, self.asked.product).map_err(|message| self.row(row, "label", message))?;
        // A group's name means something within its product only.
        let group = cells.remove("group").map(|group| match label.split_once('/') {
            Some((product, _)) => format!("{product}/{group}"),
            None => group,
        });
        Ok(Item {
            group: group.unwrap_or_else(|| name.clone()),
            split: cells.remove("split"),
            name,
            parts,
            label,
        })
    }

    fn file(&self, row: u64, key: &str, name: &str) -> Result<PathBuf, DataError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let file = folder.join(name);
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(file),
            Ok(_) => Err(self.row(row, key, format!("{}: is not a file", file.display()))),
            Err(error) => Err(self.row(row, key, format!("{}: {error}", file.display()))),
        }
    }

    fn row(&self, row: u64, key: &str, message: String) -> DataError {
        DataError::Row { path: self.path.to_path_buf(), row, key: key.to_owned(), message }
    }

    fn column(&self, key: &str, message: &str) -> DataError {
        DataError::Table { path: self.path.to_path_buf(), key: key.to_owned(), message: message.to_owned() }
    }
}
