//! What may be linked: the bans and licences of `.deny.toml`, checked without a tool that would have to be installed first.

use std::path::Path;
use std::process::Command;

/// A crate of the dependency tree of this target: tests and build scripts included.
#[derive(Debug)]
struct Crate {
    name: String,
    version: String,
    license: String,
}

#[test]
fn no_crate_is_banned_or_under_another_licence() {
    let rules = rules();
    let banned = list(&rules, "bans", "deny");
    let allowed = list(&rules, "licenses", "allow");
    let crates = crates();
    assert!(
        crates.len() > 50 && !banned.is_empty() && !allowed.is_empty(),
        "cargo tree or .deny.toml reads as nothing"
    );
    let mut wrong = Vec::new();
    for one in &crates {
        if banned.iter().any(|ban| bans(ban, one)) {
            wrong.push(format!(
                "{} {}: banned (`cargo tree -i {}` tells who wants it)",
                one.name, one.version, one.name
            ));
        }
        if !permits(&one.license, &allowed) {
            wrong.push(format!(
                "{} {}: its licence is {:?}",
                one.name, one.version, one.license
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        ".deny.toml refuses:\n{}",
        wrong.join("\n")
    );
}

fn crates() -> Vec<Crate> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "-e",
            "normal,build,dev",
            "--prefix",
            "none",
            "--no-dedupe",
            "-f",
            "{p}|{l}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(
        tree.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let mut lines: Vec<&str> = std::str::from_utf8(&tree.stdout)
        .expect("UTF-8")
        .lines()
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines.into_iter().map(one).collect()
}

/// Reads `name v1.2.3 (where)|licence`.
fn one(line: &str) -> Crate {
    let (package, license) = line
        .split_once('|')
        .unwrap_or_else(|| panic!("cargo tree: {line}"));
    let mut words = package.split(' ');
    let (name, version) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    Crate {
        name: name.to_owned(),
        version: version.trim_start_matches('v').to_owned(),
        license: license.to_owned(),
    }
}

fn rules() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deny.toml");
    std::fs::read_to_string(&path)
        .expect(".deny.toml")
        .parse()
        .expect(".deny.toml is TOML")
}

/// Reads a list whose entries are strings or tables with `crate`.
fn list(rules: &toml::Table, section: &str, key: &str) -> Vec<String> {
    let entries = rules[section][key].as_array().expect("a list");
    entries
        .iter()
        .map(|entry| {
            entry
                .get("crate")
                .unwrap_or(entry)
                .as_str()
                .expect("a string")
                .to_owned()
        })
        .collect()
}

/// Tells whether `name` or `name:<1.2` means this crate.
fn bans(ban: &str, one: &Crate) -> bool {
    let numbers = |version: &str| {
        version
            .split('.')
            .map(|n| n.parse().unwrap_or(0))
            .collect::<Vec<u64>>()
    };
    match ban.split_once(':') {
        None => ban == one.name,
        Some((name, range)) => {
            let below = range
                .strip_prefix('<')
                .unwrap_or_else(|| panic!("{ban}: only `name` and `name:<version` are understood"));
            name == one.name && numbers(&one.version) < numbers(below)
        }
    }
}

/// Evaluates an SPDX expression: AND binds tighter than OR, WITH belongs to its licence, `/` is an old way to write OR.
fn permits(license: &str, allowed: &[String]) -> bool {
    let spaced = license
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = any(&words, &mut at, allowed);
    verdict && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut verdict = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= all(words, at, allowed);
    }
    verdict
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut verdict = term(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= term(words, at, allowed);
    }
    verdict
}

fn term(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    *at += 1;
    match words.get(*at - 1) {
        Some(&"(") => {
            let verdict = any(words, at, allowed);
            *at += 1;
            verdict
        }
        Some(name) if words.get(*at) == Some(&"WITH") => {
            *at += 2;
            allowed.contains(&format!("{name} WITH {}", words[*at - 1]))
        }
        Some(name) => allowed.iter().any(|license| license == name),
        None => false,
    }
}

#[test]
fn bans_and_licences_are_told_apart() {
    let sqlite = |version: &str| one(&format!("libsqlite3-sys v{version}|MIT"));
    assert!(
        bans("libsqlite3-sys:<0.37", &sqlite("0.36.9"))
            && !bans("libsqlite3-sys:<0.37", &sqlite("0.37.0"))
    );
    assert!(bans("rsa", &one("rsa v0.9.1|MIT")) && !bans("rsa", &one("rsa-like v0.9.1|MIT")));

    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(String::from);
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR (MIT AND ISC)",
        "Apache-2.0 WITH LLVM-exception OR X",
        "MIT AND (X OR ISC)",
    ] {
        assert!(permits(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR X) AND X",
        "Apache-2.0",
        "MIT OR X AND",
        "MIT )",
    ] {
        assert!(!permits(bad, &allowed), "{bad}");
    }
}
