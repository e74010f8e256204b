//! Ledgers in one SQLite file that all processes of a host may share.
//!
//! `ledgers(name TEXT PRIMARY KEY, state TEXT)` has one row of JSON per ledger, named `provider|group|model`;
//! `facts(name, value)` holds the salt; `answers` holds cached answers under the SHA-256 of their question.
//! `application_id` is `0x7174666c` ("qtfl"), `user_version` is the schema, 2 (schema 1 is read too).
//!
//! One update is `BEGIN IMMEDIATE`, `PRAGMA data_version` (ledgers are read again only when another connection wrote), the
//! pure closure, an upsert of the rows that changed, `COMMIT`. Another process that holds the file is waited for, 5 s at
//! most. WAL with `synchronous=NORMAL`: what was committed survives the death of the process at any instant; after a power
//! cut the last commits may be missing, never half there.
//!
//! Not stored: prompts, answers without `cache=`, keys (only salted digests of 64 bits), calls in flight, waiting lines,
//! the retry budget. A file that is damaged, foreign, read-only, on a full disk or written by a newer quotaflow is an
//! error that says what to do, and is not changed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ffi};

use super::answers;
use super::error::{StoreError, StoreTrouble};
use super::ledger_table::LedgerTable;
use super::store::{KeptAnswer, QuotaStore};
use crate::kernel::{Amounts, Ledger, LedgerId, Ledgers, Moment};

/// The layout of the file; a file with a higher number is not touched.
const SCHEMA: i64 = 2;
/// Says that a SQLite file is ours ("qtfl").
const APPLICATION: i64 = 0x7174_666c;

/// Remembers in a SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    salt: String,
    inner: Mutex<Inner>,
}

struct Inner {
    connection: Connection,
    table: LedgerTable,
    /// For each place on the table: the state of the file in which it was last read or written.
    read_at: Vec<i64>,
    places: Vec<usize>,
    in_flight: Vec<(u64, Amounts)>,
}

impl SqliteStore {
    /// Opens the file, and creates it and its folder when they are missing. `salt` is used for a new file only.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened, read, written, or is not ours. The file is then as it was.
    pub fn open(path: &Path, salt: &str) -> Result<Self, StoreError> {
        let trouble = |error| store_error(path, error);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            create_private_folder(folder).map_err(|error| StoreError {
                trouble: trouble_of(&error),
                path: Some(path.to_owned()),
                detail: error.to_string(),
            })?;
        }
        refuse_what_is_too_short(path)?;
        // A connection is used under our own mutex only.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(trouble)?;
        connection.busy_handler(Some(wait_for_the_other_process)).map_err(trouble)?;
        let salt = prepare(&mut connection, path, salt)?;
        let inner = Inner {
            connection,
            table: LedgerTable::default(),
            read_at: Vec::new(),
            places: Vec::new(),
            in_flight: Vec::new(),
        };
        Ok(SqliteStore { path: path.to_owned(), salt, inner: Mutex::new(inner) })
    }

    fn error(&self, error: rusqlite::Error) -> StoreError {
        store_error(&self.path, error)
    }
}

impl QuotaStore for SqliteStore {
    fn update(
        &self,
        ids: &[LedgerId],
        act: &mut dyn FnMut(&mut Ledgers<'_>),
    ) -> Result<(), StoreError> {
        let inner = &mut *self.inner.lock();
        let begun = inner.begin(ids);
        // Without the file it acts on what this process remembers, and only its ends of calls are kept: they have ended
        // whether that can be written down or not.
        let mut ledgers = Ledgers::new(&mut inner.table.ledgers, &inner.places);
        let acted = catch_unwind(AssertUnwindSafe(|| act(&mut ledgers)));
        let outcome = begun.and_then(|()| if acted.is_ok() { inner.write(ids) } else { Ok(()) });
        if outcome.is_err() || acted.is_err() {
            inner.forget();
        }
        if let Err(panic) = acted {
            resume_unwind(panic);
        }
        outcome.map_err(|error| self.error(error))
    }

    fn ids(&self) -> Result<Vec<LedgerId>, StoreError> {
        let inner = self.inner.lock();
        let read = || -> rusqlite::Result<Vec<LedgerId>> {
            let mut rows = inner.connection.prepare("SELECT name FROM ledgers ORDER BY name")?;
            let names = rows.query_map([], |row| row.get::<_, String>(0))?;
            names.map(|name| Ok(LedgerId::from(name?.as_str()))).collect()
        };
        read().map_err(|error| self.error(error))
    }

    fn salt(&self) -> &str {
        &self.salt
    }

    fn answer(&self, name: &[u8], since: Moment) -> Result<Option<Vec<u8>>, StoreError> {
        let inner = self.inner.lock();
        answers::read(&inner.connection, name, since).map_err(|error| self.error(error))
    }

    fn keep_answer(&self, kept: &KeptAnswer<'_>, most_bytes: u64) -> Result<(), StoreError> {
        if kept.bytes() > most_bytes {
            return Ok(());
        }
        let mut inner = self.inner.lock();
        let written = answers::write(&mut inner.connection, kept, most_bytes);
        written.map_err(|error| self.error(error))
    }

    fn forget_answers(&self, name: Option<&[u8]>) -> Result<u64, StoreError> {
        let mut inner = self.inner.lock();
        let forgotten = answers::forget(&mut inner.connection, name);
        forgotten.map_err(|error| self.error(error))
    }
}

impl Inner {
    fn execute(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }

    /// Finds the ledgers and takes the file, so that they are current and no other process changes them.
    fn begin(&mut self, ids: &[LedgerId]) -> rusqlite::Result<()> {
        self.places.clear();
        self.in_flight.clear();
        for id in ids {
            let place = self.table.place(id);
            self.places.push(place);
            let ledger = &self.table.ledgers[place];
            self.in_flight.push((ledger.in_flight(), ledger.reserved()));
        }
        self.read_at.resize(self.table.ledgers.len(), i64::MIN);
        self.execute("BEGIN IMMEDIATE")?;
        let version: i64 = self
            .connection
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))?;
        for (index, id) in ids.iter().enumerate() {
            let place = self.places[index];
            if self.read_at[place] != version {
                self.read(place, id)?;
                self.read_at[place] = version;
            }
        }
        Ok(())
    }

    /// Writes what was changed and releases the file.
    fn write(&mut self, ids: &[LedgerId]) -> rusqlite::Result<()> {
        let mut write = self.connection.prepare_cached(
            "INSERT INTO ledgers (name, state) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET state = ?2",
        )?;
        for (id, place) in ids.iter().zip(&self.places) {
            let ledger = &mut self.table.ledgers[*place];
            if ledger.take_changed() {
                write.execute((id.as_str(), to_json(ledger)?))?;
            }
        }
        drop(write);
        self.execute("COMMIT")
    }

    fn read(&mut self, place: usize, id: &LedgerId) -> rusqlite::Result<()> {
        let mut query =
            self.connection.prepare_cached("SELECT state FROM ledgers WHERE name = ?1")?;
        let state = query.query_row([id.as_str()], |row| row.get::<_, String>(0)).optional()?;
        let mut stored = match state {
            Some(state) => from_json(&state)?,
            None => Ledger::default(),
        };
        let ledger = &mut self.table.ledgers[place];
        stored.keep_local(std::mem::take(ledger));
        *ledger = stored;
        Ok(())
    }

    /// After a failure the file is right and memory is not: read it all again, and take back what was counted as in
    /// flight by an update that never happened.
    fn forget(&mut self) {
        // When even this fails there is no transaction left to end.
        let _ = self.execute("ROLLBACK");
        for (place, (before, held)) in self.places.iter().zip(&self.in_flight) {
            let ledger = &mut self.table.ledgers[*place];
            if ledger.in_flight() > *before {
                let taken = ledger.reserved().minus(held);
                ledger.release(&taken);
            }
            while ledger.in_flight() > *before {
                ledger.forget_in_flight();
            }
        }
        self.read_at.fill(i64::MIN);
    }
}

fn to_json(ledger: &Ledger) -> rusqlite::Result<String> {
    serde_json::to_string(ledger)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn from_json(state: &str) -> rusqlite::Result<Ledger> {
    serde_json::from_str(state).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Looks at the file, brings it under the schema, and returns its salt.
fn prepare(connection: &mut Connection, path: &Path, salt: &str) -> Result<String, StoreError> {
    let trouble = |error| store_error(path, error);
    let (schema, application, tables) = marks(connection).map_err(trouble)?;
    let refuse =
        |trouble, detail: String| Err(StoreError { trouble, path: Some(path.to_owned()), detail });
    if tables > 0 && application != APPLICATION {
        return refuse(StoreTrouble::Corrupt, "the database belongs to another program".to_owned());
    }
    if schema > SCHEMA {
        return refuse(
            StoreTrouble::NewerSchema,
            format!("its schema is {schema}, this version knows {SCHEMA}"),
        );
    }
    write_ahead(connection).map_err(trouble)?;
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS ledgers (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
             {}
             PRAGMA user_version = {SCHEMA};
             PRAGMA application_id = {APPLICATION};",
            answers::TABLE
        ))
        .map_err(trouble)?;
    let keep = || -> rusqlite::Result<String> {
        connection
            .execute("INSERT OR IGNORE INTO facts (name, value) VALUES ('salt', ?1)", [salt])?;
        connection.execute_batch("COMMIT")?;
        connection.query_row("SELECT value FROM facts WHERE name = 'salt'", [], |row| row.get(0))
    };
    keep().map_err(trouble)
}

/// What says whose file it is: schema, application and the number of tables, all of one instant, because another
/// process may be making the file right now.
fn marks(connection: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    let number = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    connection.execute_batch("BEGIN")?;
    let marks = (
        number("PRAGMA user_version")?,
        number("PRAGMA application_id")?,
        number("SELECT count(*) FROM sqlite_master")?,
    );
    connection.execute_batch("COMMIT")?;
    Ok(marks)
}

/// Switches to a write-ahead log. SQLite does not wait when two do that to a new file at once, so we do.
fn write_ahead(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler::<fn(i32) -> bool>(None)?;
    let mut asked = 0;
    loop {
        let switched =
            connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");
        match switched {
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == ErrorCode::DatabaseBusy && wait_for_the_other_process(asked) =>
            {
                asked += 1;
            }
            outcome => {
                connection.busy_handler(Some(wait_for_the_other_process))?;
                return outcome;
            }
        }
    }
}

/// SQLite takes a file of a single byte for an empty one and would write over it.
///
/// Only its length is looked at: closing a file that is open elsewhere in this process would drop SQLite's locks on it.
fn refuse_what_is_too_short(path: &Path) -> Result<(), StoreError> {
    const SMALLEST_DATABASE: u64 = 512;
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() && (1..SMALLEST_DATABASE).contains(&file.len()) => {
            Err(StoreError {
                trouble: StoreTrouble::Corrupt,
                path: Some(path.to_owned()),
                detail: format!("{} bytes are not a database", file.len()),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// Another process holds the file for some ten microseconds; it is asked for again soon, and for five seconds.
#[expect(clippy::disallowed_methods, reason = "SQLite calls this while it waits for a file lock")]
fn wait_for_the_other_process(asked: i32) -> bool {
    const PAUSE: Duration = Duration::from_micros(100);
    const PATIENCE: Duration = Duration::from_secs(5);
    std::thread::sleep(PAUSE);
    PAUSE.saturating_mul(asked.max(0) as u32) < PATIENCE
}

/// How SQLite says that a file cannot grow, besides saying it plainly: the file itself, and the index of its log.
const OUT_OF_ROOM: [std::ffi::c_int; 2] = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE];

/// SQLite does not say why; the system does when it is asked for the same.
fn why_it_cannot_be_opened(path: &Path) -> StoreTrouble {
    let asked = if path.exists() {
        // Should it be opened after all it stays open: closing it would drop SQLite's locks on the same file.
        std::fs::File::open(path).map(std::mem::forget)
    } else {
        std::fs::File::create_new(path).map(drop)
    };
    asked.err().map_or(StoreTrouble::CannotOpen, |error| trouble_of(&error))
}

fn trouble_of(error: &std::io::Error) -> StoreTrouble {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => StoreTrouble::ReadOnly,
        StorageFull | QuotaExceeded => StoreTrouble::DiskFull,
        _ => StoreTrouble::CannotOpen,
    }
}

fn store_error(path: &Path, error: rusqlite::Error) -> StoreError {
    let trouble = match &error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::ReadOnly => StoreTrouble::ReadOnly,
            ErrorCode::CannotOpen => why_it_cannot_be_opened(path),
            ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => StoreTrouble::Corrupt,
            ErrorCode::DiskFull => StoreTrouble::DiskFull,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreTrouble::Busy,
            _ if OUT_OF_ROOM.contains(&failure.extended_code) => StoreTrouble::DiskFull,
            _ => StoreTrouble::Other,
        },
        rusqlite::Error::FromSqlConversionFailure(..) => StoreTrouble::Corrupt,
        _ => StoreTrouble::Other,
    };
    StoreError { trouble, path: Some(path.to_owned()), detail: error.to_string() }
}
