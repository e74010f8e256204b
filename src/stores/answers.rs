//! Cached answers of a store.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::store::KeptAnswer;
use crate::kernel::Moment;

/// Answers in memory, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: HashMap<Box<[u8]>, One>,
    /// Names with the number they were kept under; one that was kept again stands here twice, and only the later counts.
    order: VecDeque<(u64, Box<[u8]>)>,
    number: u64,
    bytes: u64,
}

/// So many places of answers that were kept again do no harm.
const FEW: usize = 64;

#[derive(Debug)]
struct One {
    number: u64,
    answer: Vec<u8>,
    bytes: u64,
    at: Moment,
}

impl Answers {
    pub(super) fn get(&self, name: &[u8], since: Moment) -> Option<Vec<u8>> {
        self.kept.get(name).filter(|one| one.at >= since).map(|one| one.answer.clone())
    }

    pub(super) fn keep(&mut self, kept: &KeptAnswer<'_>, most_bytes: u64) {
        self.number += 1;
        let bytes = kept.bytes();
        let one = One { number: self.number, answer: kept.answer.to_vec(), bytes, at: kept.at };
        self.bytes += bytes;
        if let Some(before) = self.kept.insert(kept.name.into(), one) {
            self.bytes -= before.bytes;
        }
        self.order.push_back((self.number, kept.name.into()));
        // Those that were kept again leave their earlier place behind.
        if self.order.len() > 2 * self.kept.len() + FEW {
            let kept = &self.kept;
            self.order
                .retain(|(number, name)| kept.get(name).is_some_and(|one| one.number == *number));
        }
        while self.bytes > most_bytes {
            let Some((number, name)) = self.order.pop_front() else { return };
            if self.kept.get(&name).is_some_and(|one| one.number == number)
                && let Some(gone) = self.kept.remove(&name)
            {
                self.bytes -= gone.bytes;
            }
        }
    }

    pub(super) fn forget(&mut self, name: Option<&[u8]>) -> u64 {
        let Some(name) = name else {
            self.bytes = 0;
            self.order.clear();
            return std::mem::take(&mut self.kept).len() as u64;
        };
        let gone = self.kept.remove(name);
        self.bytes -= gone.as_ref().map_or(0, |gone| gone.bytes);
        u64::from(gone.is_some())
    }
}

/// The table of a state file.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    at INTEGER NOT NULL,
    answer BLOB NOT NULL);";

/// Reads an answer from a state file.
pub(super) fn read(
    connection: &Connection,
    name: &[u8],
    since: Moment,
) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT answer FROM answers WHERE name = ?1 AND at >= ?2")?
        .query_row((name, since.as_nanos()), |row| row.get(0))
        .optional()
}

/// Writes an answer into a state file; how many bytes there are is a fact of the file, counted along.
pub(super) fn write(
    connection: &mut Connection,
    kept: &KeptAnswer<'_>,
    most_bytes: u64,
) -> rusqlite::Result<()> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    {
        let mut bytes = bytes_in(&change)?;
        let mut take =
            change.prepare_cached("DELETE FROM answers WHERE name = ?1 RETURNING bytes")?;
        bytes -= take.query_row([kept.name], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0);
        change
            .prepare_cached(
                "INSERT INTO answers (number, name, bytes, at, answer)
                 VALUES ((SELECT coalesce(max(number), 0) + 1 FROM answers), ?1, ?2, ?3, ?4)",
            )?
            .execute((kept.name, number(kept.bytes()), kept.at.as_nanos(), kept.answer))?;
        bytes += number(kept.bytes());
        let mut oldest = change.prepare_cached(
            "DELETE FROM answers WHERE number = (SELECT min(number) FROM answers) RETURNING bytes",
        )?;
        while bytes > number(most_bytes) {
            match oldest.query_row([], |row| row.get::<_, i64>(0)).optional()? {
                Some(gone) => bytes -= gone,
                None => break,
            }
        }
        note_bytes(&change, bytes)?;
    }
    change.commit()
}

/// Deletes the answer with this name from a state file, or all of them; returns how many.
pub(super) fn forget(connection: &mut Connection, name: Option<&[u8]>) -> rusqlite::Result<u64> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let gone: Vec<i64> = {
        let mut delete = change
            .prepare_cached("DELETE FROM answers WHERE ?1 IS NULL OR name = ?1 RETURNING bytes")?;
        let gone = delete.query_map([name], |row| row.get(0))?;
        gone.collect::<rusqlite::Result<_>>()?
    };
    let left = bytes_in(&change)? - gone.iter().sum::<i64>();
    note_bytes(&change, left)?;
    change.commit()?;
    Ok(gone.len() as u64)
}

fn bytes_in(connection: &Connection) -> rusqlite::Result<i64> {
    let mut count = connection
        .prepare_cached("SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'answer_bytes'")?;
    Ok(count.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn note_bytes(connection: &Connection, bytes: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO facts (name, value) VALUES ('answer_bytes', ?1)
             ON CONFLICT (name) DO UPDATE SET value = ?1",
        )?
        .execute([bytes.to_string()])
        .map(drop)
}
