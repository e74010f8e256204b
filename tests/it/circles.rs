//! The floors of every ring: no file uses, by a chain of others, itself.

use std::collections::{BTreeMap, BTreeSet};

use super::law::{is_word, sources};

/// Circles that remain, each by its files, until the ring is in floors.
const KNOWN: [&[&str]; 0] = [];

/// The floors of the engine: a room uses itself and what is on the floors before it.
const ENGINE: [&[&str]; 6] = [
    &["world"],
    &["dispatch"],
    &["call"],
    &["plan.rs"],
    &["batch", "guard", "stream"],
    &["mod.rs"],
];

/// What a file declares, says and uses.
struct Room {
    /// Its modules by path from the crate, itself first.
    module: Vec<String>,
    /// Names that its `use` lines bring in, with their paths: re-exports are followed.
    brought: Vec<Use>,
    /// The code without its `use` lines, comments, strings and tests.
    code: String,
}

struct Use {
    name: String,
    path: Vec<String>,
    is_public: bool,
}

type House = BTreeMap<String, Room>;

/// The path of modules from the crate to a file: `a/mod.rs` is `a`, `a/b.rs` is `a`, `b`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// Cuts out what is in quotes: no name in it counts.
fn without_strings(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find('"') {
        let (before, quoted) = rest.split_at(at);
        if before.ends_with('\'') || before.ends_with("b'") {
            kept.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        }
        kept.push_str(before);
        let hashes = before.len() - before.trim_end_matches('#').len();
        let is_raw = before.trim_end_matches('#').ends_with('r');
        let end = if is_raw {
            let close = format!("\"{}", "#".repeat(hashes));
            quoted[1..].find(&close).map(|end| 1 + end + close.len())
        } else {
            let mut escaped = false;
            let is_end = |character: char| {
                let ends = character == '"' && !escaped;
                escaped = character == '\\' && !escaped;
                ends
            };
            quoted[1..].find(is_end).map(|end| end + 2)
        };
        rest = &quoted[end.unwrap_or(quoted.len())..];
    }
    kept + rest
}

/// Cuts out `mod tests { … }`: what tests use is no floor of the house.
fn without_tests(code: &str) -> String {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// Splits `a::{b, c as d}` into one path for each name.
fn spread(tree: &str, before: &[String], into: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some(list) = tree.strip_prefix('{') {
        let list = list.strip_suffix('}').unwrap_or(list);
        let (mut depth, mut from) = (0, 0);
        for (at, character) in list.char_indices().chain([(list.len(), ',')]) {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    spread(&list[from..at], before, into);
                    from = (at + 1).min(list.len());
                }
                _ => {}
            }
        }
    } else if let Some((first, rest)) = tree.split_once("::") {
        let path = [before, &[first.trim().to_owned()]].concat();
        spread(rest, &path, into);
    } else if !tree.is_empty() {
        let (name, alias) = tree.split_once(" as ").unwrap_or((tree, tree));
        let mut path = before.to_vec();
        if name != "self" {
            path.push(name.trim().to_owned());
        }
        let alias = if alias == "self" { before.last().map_or("", String::as_str) } else { alias };
        into.push((path, alias.trim().to_owned()));
    }
}

/// Takes the `use` lines out of the code.
fn uses(code: &str) -> (Vec<Use>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        let public = bare.strip_prefix("pub").and_then(|rest| {
            let rest = rest.trim_start();
            match rest.strip_prefix('(') {
                Some(scoped) => scoped.split_once(')').map(|(_, rest)| rest.trim_start()),
                None => Some(rest),
            }
        });
        let Some(tree) = public.unwrap_or(bare).strip_prefix("use ") else {
            let declares = public.unwrap_or(bare).starts_with("mod ") && bare.ends_with(';');
            rest.push_str(if declares { "" } else { line });
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.trim_end().ends_with(';') {
            let Some(next) = lines.next() else { break };
            tree.push(' ');
            tree.push_str(next.trim());
        }
        let mut paths = Vec::new();
        spread(tree.trim_end().trim_end_matches(';'), &[], &mut paths);
        let is_public = public.is_some();
        found.extend(paths.into_iter().map(|(path, name)| Use { name, path, is_public }));
    }
    (found, rest)
}

fn house(sources: &BTreeMap<String, String>) -> House {
    let rooms = sources.iter().filter(|(file, _)| !file.ends_with("/tests.rs"));
    rooms
        .map(|(file, code)| {
            let (brought, code) = uses(&without_strings(&without_tests(code)));
            (file.clone(), Room { module: module_of(file), brought, code })
        })
        .collect()
}

/// The file of a module.
fn file_of<'a>(house: &'a House, module: &[String]) -> Option<&'a str> {
    let path = module.join("/");
    [format!("{path}.rs"), format!("{path}/mod.rs")]
        .iter()
        .find_map(|file| house.get_key_value(file.as_str()))
        .map(|(file, _)| file.as_str())
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word)
    })
}

/// Where a path as it stands in a file begins: the modules it goes through, and what is left of it.
fn absolute(house: &House, room: &Room, path: &[String]) -> Option<Vec<String>> {
    let parent = &room.module[..room.module.len() - 1];
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([&room.module, &path[1..]].concat()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            let base = &parent[..(parent.len() + 1).checked_sub(ups)?];
            Some([base, &path[ups..]].concat())
        }
        first => {
            let child = [&room.module[..], &[first.to_owned()]].concat();
            file_of(house, &child)?;
            Some([&room.module, path].concat())
        }
    }
}

/// The file that defines what `path`, from the crate, names; re-exports are followed.
fn definer(house: &House, path: &[String], hops: usize) -> Option<String> {
    let mut depth = 0;
    while depth < path.len() && file_of(house, &path[..=depth]).is_some() {
        depth += 1;
    }
    let file = file_of(house, path.get(..depth)?)?;
    let room = &house[file];
    let Some(name) = path.get(depth).filter(|_| hops > 0) else { return Some(file.to_owned()) };
    for brought in room.brought.iter().filter(|brought| brought.is_public) {
        let Some(target) = absolute(house, room, &brought.path) else { continue };
        if brought.name == *name {
            return definer(house, &[&target[..], &path[depth + 1..]].concat(), hops - 1);
        }
        if brought.name == "*" {
            let inside = [&target[..target.len() - 1], &path[depth..]].concat();
            let found = definer(house, &inside, hops - 1)?;
            let defines = ["struct ", "enum ", "trait ", "fn ", "type ", "const ", "static "];
            if defines.iter().any(|kind| has_word(&house[&found].code, &format!("{kind}{name}"))) {
                return Some(found);
            }
        }
    }
    Some(file.to_owned())
}

/// The paths in a piece of code that are written out: `crate::…`, `super::…`, or through a module below or brought in.
fn written_out(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("::") {
        let head = &code[..at];
        let first = head.trim_end_matches(is_word);
        // Only where a path begins, and not of whom something may be seen.
        if first.len() == at || first.ends_with(':') || first.ends_with("pub(in ") {
            continue;
        }
        let mut path = vec![head[first.len()..].to_owned()];
        let mut rest = &code[at..];
        while let Some(next) = rest.strip_prefix("::") {
            let end = next.find(|c| !is_word(c)).unwrap_or(next.len());
            path.push(next[..end].to_owned());
            rest = &next[end..];
        }
        paths.push(path.into_iter().filter(|part| !part.is_empty()).collect());
    }
    paths
}

/// Which files each file uses.
fn arrows(house: &House) -> BTreeMap<&str, BTreeSet<String>> {
    let mut arrows = BTreeMap::new();
    for (file, room) in house {
        // What is only handed on is used by those who take it.
        let brought = room.brought.iter().filter(|brought| {
            !brought.is_public || (brought.name != "*" && has_word(&room.code, &brought.name))
        });
        let named = brought.map(|brought| brought.path.clone()).chain(written_out(&room.code));
        let used: BTreeSet<String> = named
            .filter_map(|path| definer(house, &absolute(house, room, &path)?, 8))
            .filter(|used| used != file)
            .collect();
        arrows.insert(file.as_str(), used);
    }
    arrows
}

/// Everything that can be reached from a file.
fn reached<'a>(arrows: &'a BTreeMap<&str, BTreeSet<String>>, from: &str) -> BTreeSet<&'a str> {
    let mut known = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        for used in arrows.get(next).into_iter().flatten() {
            if known.insert(used.as_str()) {
                open.push(used);
            }
        }
    }
    known
}

/// The sets of files that use one another, each in order.
fn circles(sources: &BTreeMap<String, String>) -> BTreeSet<Vec<String>> {
    let house = house(sources);
    let arrows = arrows(&house);
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (*file, reached(&arrows, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, there) in reach.iter().filter(|(file, there)| there.contains(*file)) {
        let back = |other: &&&str| reach.get(**other).is_some_and(|from| from.contains(file));
        circles.insert(there.iter().filter(back).map(|file| (*file).to_owned()).collect());
    }
    circles
}

#[test]
fn no_file_uses_itself_by_a_chain_of_others() {
    let sources = sources();
    let house = house(&sources);
    let arrows = arrows(&house);
    // The arrows are seen: by a use line, through a re-export, and through a path that is written out.
    for (from, to) in
        [("kernel/ledger/mod.rs", "kernel/meters/mod.rs"), ("engine/mod.rs", "error.rs")]
    {
        assert!(arrows[from].contains(to), "{from}: {:?}", arrows[from]);
    }
    let is_known = |circle: &Vec<String>| {
        KNOWN.iter().any(|known| circle.iter().all(|file| known.contains(&file.as_str())))
    };
    let circles: Vec<_> =
        circles(&sources).into_iter().filter(|circle| !is_known(circle)).collect();
    assert!(circles.is_empty(), "files that use one another: {circles:#?}");
}

#[test]
fn every_floor_of_the_engine_uses_only_those_below() {
    let sources = sources();
    let house = house(&sources);
    let room = |file: &str| Some(file.strip_prefix("engine/")?.split('/').next()?.to_owned());
    let floor = |room: &str| ENGINE.iter().position(|rooms| rooms.contains(&room)).unwrap();
    let mut seen = BTreeSet::new();
    for (file, used) in arrows(&house) {
        let Some(from) = room(file) else { continue };
        for (other, to) in used.iter().filter_map(|used| Some((used, room(used)?))) {
            seen.insert((from.clone(), to.clone()));
            assert!(from == to || floor(&to) < floor(&from), "{file} uses {other}");
        }
    }
    assert!(seen.contains(&("stream".to_owned(), "world".to_owned())), "{seen:?}");
}

#[test]
fn a_circle_would_be_found() {
    let circle = |files: &[(&str, &str)]| {
        let sources = files.iter().map(|(file, code)| ((*file).to_owned(), (*code).to_owned()));
        circles(&sources.collect()).into_iter().flatten().collect::<Vec<_>>()
    };
    let (one, two) = ("a/one.rs", "a/two.rs");
    let declares = ("a/mod.rs", "mod one;\nmod two;\npub use one::One;\npub use two::{Two, Far};");
    let cases: [(&str, &str); 6] = [
        ("use super::two::Two;", "use super::one::One;"),
        // Through what the folder hands on, and by the path from the crate.
        ("use super::{Two, other};", "fn f(one: crate::a::One) {}"),
        ("use crate::a::{two::{self, Two}};", "use super::one;\nfn f() { one::f() }"),
        ("fn f() { super::two::f() }", "pub use super::one::One as Uno;\nstruct S(Uno);"),
        ("use super::two::{\n    Two,\n};", "pub(super) use super::one::One;\nstruct S(One);"),
        ("use crate::a::Far as Near;", "pub use crate::a::one::One as Far;\ntype A = Far;"),
    ];
    for (first, second) in cases {
        let found = circle(&[declares, (one, first), (two, second)]);
        let expected: &[&str] = if second.contains("as Far") { &[] } else { &[one, two] };
        assert_eq!(found, expected, "{first} {second}");
    }
    // A folder's file with code of its own is used by its children, and uses them.
    let parent = ("a/mod.rs", "mod one;\nuse one::One;\npub struct A(One);");
    assert_eq!(circle(&[parent, (one, "use super::A;")]), ["a/mod.rs", one]);
    let parent = ("a/mod.rs", "mod one;\npub use one::One;\npub struct A(One);");
    assert_eq!(circle(&[parent, (one, "fn f(a: super::A) {}")]), ["a/mod.rs", one]);
    // Comments, strings and tests use nothing; neither does a folder that only hands on.
    for innocent in [
        "const A: &str = \"super::one::One\";",
        "#[cfg(test)]\nmod tests {\n    use super::super::one::One;\n}",
        "fn f() { one::f(self::two) }",
    ] {
        assert_eq!(circle(&[declares, (one, "use super::two::Two;"), (two, innocent)]), [""; 0]);
    }
}
