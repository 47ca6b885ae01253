//! The spool's log beside redb: bytes written for each byte taken, entries a second with the disk waited for, and the time
//! to read all of it at a start.
//!
//! `cargo bench -p millgate-edge --bench spool [-- DIR]`; DIR is a directory on the disk to measure.

#![expect(clippy::print_stdout, reason = "it prints its table")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millgate_edge::spool::Sync;
use millgate_edge::spool::measure::Written;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const SIZES: [usize; 3] = [100, 10_000, 100_000];
const GROUPS: [usize; 3] = [1, 10, 100];
/// Each measurement ends with the first group after this, or when so much has been written.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);
const MUCH: usize = 64 << 20;
const SEGMENT: u64 = 8 << 20;

/// A store under test.
trait Store: Sized {
    const NAME: &'static str;

    /// Gives also how many entries it held, all of them read.
    fn open(dir: &Path) -> Result<(Self, usize)>;

    /// On the disk when this returns.
    fn append(&mut self, group: &[&[u8]]) -> Result<()>;
}

impl Store for Written {
    const NAME: &'static str = "segments";

    fn open(dir: &Path) -> Result<(Self, usize)> {
        Ok(Self::open(dir, Sync::Always, SEGMENT)?)
    }

    fn append(&mut self, group: &[&[u8]]) -> Result<()> {
        Ok(Self::append(self, group)?)
    }
}

struct Redb {
    database: Database,
    next: u64,
}

impl Store for Redb {
    const NAME: &'static str = "redb";

    fn open(dir: &Path) -> Result<(Self, usize)> {
        std::fs::create_dir_all(dir)?;
        let database = Database::builder().set_cache_size(1 << 20).create(dir.join("entries.redb"))?;
        let write = database.begin_write()?;
        write.open_table(ENTRIES)?;
        write.commit()?;
        let mut found = 0;
        for entry in database.begin_read()?.open_table(ENTRIES)?.iter()? {
            std::hint::black_box(crc32fast::hash(entry?.1.value()));
            found += 1;
        }
        Ok((Self { database, next: found as u64 }, found))
    }

    fn append(&mut self, group: &[&[u8]]) -> Result<()> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(ENTRIES)?;
            for body in group {
                table.insert(self.next, body)?;
                self.next += 1;
            }
        }
        write.commit()?;
        Ok(())
    }
}

/// Bytes this process has caused to be written to disks.
fn written() -> Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes in /proc/self/io")?.trim().parse()?)
}

fn measure<S: Store>(dir: &Path, size: usize, group: usize) -> Result<()> {
    let dir = dir.join(format!("{}-{size}-{group}", S::NAME));
    let body: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
    let bodies = vec![body.as_slice(); group];
    let (mut store, _) = S::open(&dir)?;
    let before = written()?;
    let began = Instant::now();
    let mut entries = 0;
    while began.elapsed() < LONG_ENOUGH && entries * size < MUCH {
        store.append(&bodies)?;
        entries += group;
    }
    let took = began.elapsed().as_secs_f64();
    let factor = (written()? - before) as f64 / (entries * size) as f64;
    drop(store);
    let began = Instant::now();
    let (store, found) = S::open(&dir)?;
    let recovery = began.elapsed().as_secs_f64() * 1e3;
    assert_eq!(found, entries, "all are there");
    drop(store);
    let rate = entries as f64 / took;
    println!("| {} | {size} | {group} | {rate:.0} | {factor:.2} | {entries} in {recovery:.1} ms |", S::NAME);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn main() -> Result<()> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let dir = given.map_or_else(|| std::env::temp_dir().join("millgate-spool-bench"), PathBuf::from);
    println!("| store | entry, bytes | a sync each | entries/s | written per byte | read at a start |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for size in SIZES {
        for group in GROUPS {
            measure::<Written>(&dir, size, group)?;
            measure::<Redb>(&dir, size, group)?;
        }
    }
    Ok(())
}
