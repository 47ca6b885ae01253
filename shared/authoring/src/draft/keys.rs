//! Keys of a manifest, written where they stand: comments and order stay.

use std::collections::BTreeMap;

use millgate_model::manifest::{Competence, Product, Threshold};
use serde_json::Value as Json;
use toml_edit::{Array, ArrayOfTables, InlineTable, Item, Table, Value, value};

use super::{Draft, DraftError};

/// Digits behind the point of a number that was fitted; the shipped bundles have as many.
const DIGITS: f64 = 1e6;

impl Draft {
    /// Sets a key at the top level; what is written around its value stays.
    pub fn set(&mut self, key: &str, new: Item) {
        replace(self.manifest.as_table_mut(), key, new);
    }

    /// The tables of a list such as `experts`; one that is not there is made.
    pub fn tables(&mut self, key: &str) -> Result<&mut ArrayOfTables, DraftError> {
        let list = self.manifest.entry(key).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        list.as_array_of_tables_mut().ok_or_else(|| DraftError::key(key, "is not a list of tables (`[[…]]`)"))
    }

    /// The table of a list whose `name` is this.
    pub fn named(&mut self, key: &str, name: &str) -> Result<&mut Table, DraftError> {
        let mut tables = self.tables(key)?.iter_mut();
        let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
        tables
            .find(|table| is_it(table))
            .ok_or_else(|| DraftError::key(key, format!("none is called `{name}`")))
    }

    pub fn set_competence(&mut self, expert: &str, competence: Competence) -> Result<(), DraftError> {
        let table = self.named("experts", expert)?;
        let mut new = InlineTable::new();
        for (key, number) in
            [("bias", competence.bias), ("confidence", competence.confidence), ("gate", competence.gate)]
        {
            new.insert(key, Value::from((number * DIGITS).round() / DIGITS));
        }
        replace(table, "competence", value(new));
        Ok(())
    }

    /// Sets the labels of a task.
    pub fn set_task_labels(&mut self, task: &str, labels: &[String]) -> Result<(), DraftError> {
        replace(self.named("tasks", task)?, "labels", value(lines(labels)));
        Ok(())
    }

    /// Puts these in the place of every certified threshold.
    pub fn set_thresholds(&mut self, thresholds: &[Threshold]) -> Result<(), DraftError> {
        let mut tables = ArrayOfTables::new();
        for entry in thresholds {
            let mut table = Table::new();
            table.insert("product", value(entry.product.as_str()));
            if entry.restricted {
                table.insert("restricted", value(true));
            }
            table.insert("risk", value(entry.risk));
            table.insert("threshold", value(entry.threshold));
            for (key, count) in [
                ("calibration_samples", entry.calibration_samples),
                ("calibration_kept", entry.calibration_kept),
                ("calibration_errors", entry.calibration_errors),
            ] {
                table.insert(key, value(i64::try_from(count).unwrap_or(i64::MAX)));
            }
            tables.push(table);
        }
        let offload = self.manifest.get_mut("offload").and_then(Item::as_table_mut);
        let offload = offload.ok_or_else(|| DraftError::key("offload", "is missing"))?;
        match tables.is_empty() {
            true => drop(offload.remove("thresholds")),
            false => drop(offload.insert("thresholds", Item::ArrayOfTables(tables))),
        }
        Ok(())
    }

    /// Sets what is known of a product; its other keys, and those of other products, stay.
    pub fn set_product(&mut self, product: &Product) -> Result<(), DraftError> {
        let json = serde_json::to_value(product);
        let json = json.map_err(|error| DraftError::key("products", error.to_string()))?;
        let mut table = Table::new();
        table.insert("name", value(product.name.as_str()));
        for (key, json) in json.as_object().into_iter().flatten().filter(|(key, _)| *key != "name") {
            table.insert(key, item_of(json));
        }
        let tables = self.tables("products")?;
        let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(&product.name);
        let Some(at) = tables.iter().position(is_it) else {
            tables.push(table);
            return Ok(());
        };
        let old = tables.get_mut(at).ok_or_else(|| DraftError::key("products", "is empty"))?;
        let keys: Vec<String> = old.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys.iter().filter(|key| !table.contains_key(key)) {
            old.remove(key);
        }
        for (key, item) in table.iter() {
            replace(old, key, item.clone());
        }
        Ok(())
    }

    /// What the manifest knows of each product, by name.
    pub fn products(&self) -> Result<BTreeMap<String, Product>, DraftError> {
        let products = self.parsed()?.products;
        Ok(products.into_iter().map(|product| (product.name.clone(), product)).collect())
    }
}

/// A list with a line for each text.
pub fn lines(texts: &[String]) -> Array {
    let mut array: Array = texts.iter().map(String::as_str).collect();
    for item in array.iter_mut() {
        item.decor_mut().set_prefix("\n  ");
    }
    array.set_trailing_comma(true);
    array.set_trailing("\n");
    array
}

/// Sets a key and keeps what stands around an old value.
pub fn replace(table: &mut Table, key: &str, mut new: Item) {
    if let (Some(old), Some(new)) = (table.get(key).and_then(Item::as_value), new.as_value_mut()) {
        *new.decor_mut() = old.decor().clone();
    }
    table.insert(key, new);
}

/// A value as TOML has it: objects in a list become tables of their own, others stand on one line.
fn item_of(json: &Json) -> Item {
    match json {
        Json::Array(list) if !list.is_empty() && list.iter().all(Json::is_object) => {
            let table = |json: &Json| {
                let mut table = Table::new();
                for (key, json) in json.as_object().into_iter().flatten() {
                    table.insert(key, item_of(json));
                }
                table
            };
            Item::ArrayOfTables(list.iter().map(table).collect())
        }
        other => value_of(other).map_or(Item::None, Item::Value),
    }
}

/// A value on one line; TOML has no null.
fn value_of(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(bool) => (*bool).into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64()?.into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(list) => Value::Array(list.iter().filter_map(value_of).collect()),
        Json::Object(object) => {
            let mut table = InlineTable::new();
            for (key, json) in object {
                if let Some(value) = value_of(json) {
                    table.insert(key, value);
                }
            }
            Value::InlineTable(table)
        }
    })
}
