//! The smoke test of the fuzz targets: each over its seeds, whole and cut off.

use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "the targets are public in their own crate")]
mod targets;

/// Every file below the folders, by path.
fn files(folders: &[&str]) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "{folders:?}");
    found
}

/// Runs a target on each file, whole and cut off in four places.
fn smoke(target: fn(&[u8]), folders: &[&str]) {
    for (name, bytes) in files(folders) {
        for quarters in 0..=4 {
            let part = &bytes[..bytes.len() * quarters / 4];
            let run = std::panic::catch_unwind(|| target(part));
            assert!(run.is_ok(), "{name}, {} bytes of it", part.len());
        }
    }
}

#[test]
fn the_target_for_answer_text_takes_its_seeds() {
    smoke(targets::answer_text, &["fuzz/seeds/answer_text", "tests/fixtures/openai"]);
}

#[test]
fn the_target_for_config_takes_its_seeds() {
    smoke(targets::config, &["fuzz/seeds/config"]);
}

#[test]
fn the_target_for_foreign_errors_takes_its_seeds() {
    smoke(targets::foreign_error, &["fuzz/seeds/foreign_error", "tests/fixtures"]);
}

#[test]
fn the_target_for_streams_takes_its_seeds() {
    smoke(targets::stream, &["tests/streams"]);
}
