//! Several processes on one state file, and the death of one of them.
//!
//! A test starts this very binary again with a role in its environment; the same test then plays that role.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use quotaflow::stores::SqliteStore;

use crate::stores::{a_day, sent, sqlite, take, used};

const ROLE: &str = "QUOTAFLOW_TEST_STATE_FILE";

/// The file this process is to work on, if it was started by a test.
#[expect(clippy::disallowed_methods, reason = "how a test tells its child what to do")]
fn played_role() -> Option<PathBuf> {
    std::env::var_os(ROLE).map(PathBuf::from)
}

/// This binary, about to run only `test`, as a child of that test.
fn this_binary(binary: &Path, test: &str, file: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(ROLE, file).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn spawn(test: &str, file: &Path) -> Child {
    this_binary(&std::env::current_exe().unwrap(), test, file).spawn().unwrap()
}

/// What a child has to say goes to its standard error: the test harness owns the other one.
fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

fn wait_for_the_start() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
}

fn start(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

fn everything_said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

const DAYS: usize = 20;

fn day(number: usize) -> String {
    format!("day {number}")
}

#[test]
fn a_hundred_permits_are_granted_a_hundred_times_by_two_processes() {
    const NAME: &str =
        "stores::processes::a_hundred_permits_are_granted_a_hundred_times_by_two_processes";
    let allowed = a_day(100);
    if let Some(file) = played_role() {
        let store = sqlite(&file);
        say("ready\n");
        wait_for_the_start();
        for number in 0..DAYS {
            let mut granted = 0;
            while take(&*store, &day(number), &allowed).unwrap() {
                granted += 1;
            }
            say(&format!("{granted}\n"));
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let mut children: Vec<Child> = (0..2).map(|_| spawn(NAME, &file)).collect();
    for child in &mut children {
        let mut ready = [0; 6];
        let said = child.stderr.as_mut().unwrap();
        said.read_exact(&mut ready).unwrap();
        if ready != *b"ready\n" {
            let mut rest = String::new();
            said.read_to_string(&mut rest).unwrap();
            panic!("a child failed: {rest}");
        }
    }
    children.iter_mut().for_each(start);
    let granted: Vec<Vec<u64>> = children
        .into_iter()
        .map(|child| everything_said(child).lines().map(|line| line.parse().unwrap()).collect())
        .collect();
    let together: Vec<u64> = (0..DAYS).map(|day| granted[0][day] + granted[1][day]).collect();
    assert_eq!(together, [100; DAYS]);
    let alone = |grants: &Vec<u64>| grants.iter().sum::<u64>();
    assert!(alone(&granted[0]) > 0 && alone(&granted[1]) > 0, "they ran one after the other");
    let store = sqlite(&file);
    for number in 0..DAYS {
        assert_eq!(used(&*store, &day(number), &allowed), [100]);
    }
}

#[test]
fn a_process_that_is_killed_leaves_every_permit_counted() {
    const NAME: &str = "stores::processes::a_process_that_is_killed_leaves_every_permit_counted";
    let allowed = a_day(1_000_000);
    if let Some(file) = played_role() {
        let store = sqlite(&file);
        loop {
            assert!(take(&*store, "group", &allowed).unwrap());
            say("!");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let mut granted = 0;
    for (kill, after) in [1, 50, 333, 1_000, 77, 2].into_iter().enumerate() {
        let mut child = spawn(NAME, &file);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut mark = [0; 1];
        for _ in 0..after {
            said.read_exact(&mut mark).unwrap();
            assert_eq!(&mark, b"!");
        }
        // SIGKILL: nothing of the process runs after this.
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = Vec::new();
        said.read_to_end(&mut rest).unwrap();
        granted += after + rest.len() as u64;
        let counted = sent(&*sqlite(&file), "group");
        // Each death may leave one permit that was counted and not yet announced.
        let most = granted + kill as u64 + 1;
        assert!((granted..=most).contains(&counted), "{granted} granted, {counted} counted");
    }
}

/// What opening (and then using) a file leads to, in one line.
fn outcome(file: &Path) -> String {
    let store = match SqliteStore::open(file, "salt") {
        Ok(store) => store,
        Err(error) => return format!("open: {:?}: {error}; {}", error.trouble, error.hint()),
    };
    match take(&store, "group", &a_day(10)) {
        Ok(granted) => format!("granted: {granted}"),
        Err(error) => format!("update: {:?}: {error}; {}", error.trouble, error.hint()),
    }
}

/// Permissions do not stop root, so the one who tries is somebody else.
#[cfg(unix)]
mod without_permission {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    use super::*;

    const NAME: &str =
        "stores::processes::without_permission::a_state_that_cannot_be_written_is_read_only";
    const NOBODY: u32 = 65_534;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn outcome_for_somebody_else(file: &Path) -> String {
        // Somebody else may not be able to walk to this binary by its name.
        let magic = PathBuf::from("/proc/self/exe");
        let binary = if magic.exists() { magic } else { std::env::current_exe().unwrap() };
        let mut command = this_binary(&binary, NAME, file);
        let folder = file.ancestors().skip(1).find(|folder| folder.exists()).unwrap();
        if std::fs::metadata(folder).unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        }
        everything_said(command.spawn().unwrap())
    }

    #[test]
    fn a_state_that_cannot_be_written_is_read_only() {
        if let Some(file) = played_role() {
            return say(&outcome(&file));
        }
        let folder = tempfile::tempdir().unwrap();
        mode(folder.path(), 0o755);
        // Name, mode of the folder, mode of the file (none: there is no file).
        let cases = [
            ("file", 0o777, Some(0o444)),
            ("folder", 0o555, Some(0o666)),
            ("both", 0o555, Some(0o444)),
            ("nothing-there", 0o555, None),
            ("unreadable", 0o777, Some(0o000)),
        ];
        for (name, folder_mode, file_mode) in cases {
            let inner = folder.path().join(name);
            std::fs::create_dir(&inner).unwrap();
            let file = inner.join("state.db");
            let mut before = None;
            if let Some(file_mode) = file_mode {
                assert!(take(&*sqlite(&file), "group", &a_day(10)).unwrap());
                before = Some(std::fs::read(&file).unwrap());
                mode(&file, file_mode);
            }
            mode(&inner, folder_mode);
            let said = outcome_for_somebody_else(&file);
            mode(&inner, 0o755);
            let begins =
                format!("open: ReadOnly: the state file {} cannot be written (", file.display());
            assert!(said.starts_with(&begins), "{name}: {said}");
            assert!(
                said.contains("make the file, its -wal and -shm beside it and the folder writable"),
                "{name}: {said}"
            );
            if file.exists() {
                // As the hint says: what was begun beside the file has the file's permissions.
                for entry in std::fs::read_dir(&inner).unwrap() {
                    mode(&entry.unwrap().path(), 0o644);
                }
                assert_eq!(before, Some(std::fs::read(&file).unwrap()), "{name}");
                assert_eq!(sent(&*sqlite(&file), "group"), 1, "{name}");
            } else {
                assert_eq!(before, None, "{name}");
            }
        }
        let closed = folder.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        mode(&closed, 0o555);
        let said = outcome_for_somebody_else(&closed.join("missing").join("state.db"));
        assert!(said.starts_with("open: ReadOnly: "), "{said}");
    }
}
