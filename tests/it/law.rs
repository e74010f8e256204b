//! The law of the rings: what each ring may use, and who may name each tool.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each ring and the rings it may name; what is not in the list may name nothing.
const RINGS: [(&str, &[&str]); 9] = [
    ("kernel", &[]),
    ("secret", &[]),
    ("providers", &["kernel"]),
    ("stores", &["kernel"]),
    ("config", &["kernel", "providers", "secret"]),
    ("error", &["config", "kernel", "providers", "stores"]),
    ("engine", &["config", "error", "kernel", "providers", "secret", "stores"]),
    ("simulator", &[]),
    ("binding", &["config", "engine", "error", "secret", "simulator"]),
];

/// Tools that touch the world, and where each may be named. A path ends with a slash when it is a folder.
const TOOLS: [(&str, &[&str]); 17] = [
    ("pyo3", &["binding/", "lib.rs"]),
    ("pyo3_async_runtimes", &["binding/"]),
    ("reqwest", &["engine/world/transport.rs"]),
    ("rustls", &["engine/world/transport.rs"]),
    ("rusqlite", &["stores/"]),
    ("tokio", &["engine/", "simulator/serve.rs", "simulator/stream_sending.rs", "binding/"]),
    ("governor", &["kernel/meters/bucket/mod.rs"]),
    ("jsonschema", &["providers/answer_schema.rs"]),
    ("fastrand", &["engine/world/entropy.rs"]),
    ("dotenvy", &["config/"]),
    ("directories", &["config/sources.rs"]),
    ("parking_lot", &["engine/", "stores/", "simulator/shared.rs", "binding/"]),
    ("std::fs", &["config/", "stores/", "binding/"]),
    ("std::env", &["config/sources.rs"]),
    // Addresses are values; nothing is opened there.
    ("std::net", &["simulator/serve.rs", "binding/", "providers/local.rs"]),
    // A store must know when it is in a child of a fork.
    ("std::process", &["engine/", "binding/", "stores/forks.rs"]),
    ("std::thread", &["stores/", "engine/", "binding/"]),
];

/// The code of every source file by its path below `src`, without comments.
pub(super) fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                sources.insert(name, code(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources
}

fn code(text: &str) -> String {
    let lines = text.lines().map(|line| match line.trim_start().starts_with("//") {
        true => "",
        false => line.split(" // ").next().unwrap_or(line),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The ring of a file: its folder, or its own name.
fn ring(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

pub(super) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The first names of all paths that begin at the crate, those of `use crate::{a, b::c}` too.
fn crate_names(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.push(rest.split(|c| !is_word(c)).next().unwrap().to_owned());
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if fresh && is_word(c) => {
                    names.push(list[at..].split(|c| !is_word(c)).next().unwrap().to_owned());
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// Whether code names a crate or a module of `std`: as the first part of a path, or in an attribute.
fn names_tool(code: &str, tool: &str) -> bool {
    code.match_indices(tool).any(|(at, _)| {
        let before = &code[..at];
        let after = &code[at + tool.len()..];
        !before.ends_with(|c| is_word(c) || c == ':') && after.starts_with("::")
            || before.ends_with("use ") && after.starts_with([';', ' '])
    })
}

fn breaches(sources: &BTreeMap<String, String>) -> Vec<String> {
    let known: BTreeMap<&str, &[&str]> = RINGS.into_iter().collect();
    let mut breaches = Vec::new();
    for (file, code) in sources.iter().filter(|(file, _)| *file != "lib.rs") {
        let Some(allowed) = known.get(ring(file)) else {
            breaches.push(format!("{file}: its ring is not in the table"));
            continue;
        };
        for name in crate_names(code) {
            if name != ring(file) && !allowed.contains(&name.as_str()) {
                breaches.push(format!("{file} may not use crate::{name}"));
            }
        }
    }
    for (file, code) in sources {
        for (tool, places) in TOOLS {
            let may = places.iter().any(|place| match place.ends_with('/') {
                true => file.starts_with(place),
                false => file == place,
            });
            if !may && names_tool(code, tool) {
                breaches.push(format!("{file} may not name {tool}"));
            }
        }
    }
    breaches
}

#[test]
fn every_ring_uses_only_what_it_may() {
    let sources = sources();
    assert!(sources.len() > 50 && sources.contains_key("kernel/ledger/mod.rs"));
    assert_eq!(breaches(&sources), Vec::<String>::new());
}

#[test]
fn a_breach_of_the_law_would_be_found() {
    let cases = [
        ("kernel/a.rs", "use crate::engine::Request;", "kernel/a.rs may not use crate::engine"),
        (
            "stores/a.rs",
            "use crate::{kernel::{A, B}, config};",
            "stores/a.rs may not use crate::config",
        ),
        ("engine/a.rs", "fn f() -> crate::binding::X {}", "engine/a.rs may not use crate::binding"),
        ("simulator/a.rs", "use crate::kernel::Rule;", "simulator/a.rs may not use crate::kernel"),
        ("engine/a.rs", "use pyo3::prelude::*;", "engine/a.rs may not name pyo3"),
        ("engine/call/send.rs", "reqwest::get(url)", "engine/call/send.rs may not name reqwest"),
        ("config/limits.rs", "std::env::var(\"A\")", "config/limits.rs may not name std::env"),
        ("new/a.rs", "", "new/a.rs: its ring is not in the table"),
    ];
    for (file, text, breach) in cases {
        assert_eq!(breaches(&[(file.to_owned(), code(text))].into()), [breach], "{text}");
    }
    for innocent in
        ["// use crate::engine::Request;", "fn f() {} // pyo3::x", "use crate::kernel::A;"]
    {
        let sources = [("kernel/a.rs".to_owned(), code(innocent))].into();
        assert_eq!(breaches(&sources), Vec::<String>::new(), "{innocent}");
    }
}

/// The rows of ARCHITECTURE.md whose first cell is code: that cell, and the codes of the second one.
fn rows_of_the_page() -> BTreeMap<String, Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let page = std::fs::read_to_string(page).unwrap();
    let law = page.split("\n## ").find(|part| part.starts_with("Rings and their law")).unwrap();
    let codes = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, rest] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), codes(rest)))
    };
    law.lines().filter_map(row).collect()
}

#[test]
fn the_architecture_page_repeats_the_law() {
    let owned = |places: &[&str]| places.iter().map(|place| (*place).to_owned()).collect();
    let law = RINGS.into_iter().chain(TOOLS);
    let law: BTreeMap<String, Vec<String>> =
        law.map(|(name, places)| (name.to_owned(), owned(places))).collect();
    assert_eq!(rows_of_the_page(), law);
}
