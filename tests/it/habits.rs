//! House rules that a machine can keep: file sizes, and words that belong to one place only.

use crate::support::source::{Token, lines_with, rust_files, tokens};

/// Files of `src` that may pass the limit, each with its reason.
const LONG: &[(&str, &str)] = &[];
const LIMIT: usize = 400;

/// A sequence of tokens, where it may stand nevertheless (a path that begins so), and why nowhere else.
type Rule = (&'static [&'static str], &'static str, &'static str);

/// For `src`, its tests included.
const SOURCE: &[Rule] = &[
    (&["sqlx"], "store/", "only the store speaks SQL"),
    (
        &["SystemTime", "::", "now"],
        "clock.rs",
        "time comes in as an argument",
    ),
    (
        &["std", "::", "time", "::", "Instant"],
        "clock.rs",
        "use tokio::time::Instant, which tests can pause",
    ),
    (
        &["getrandom"],
        "clock.rs",
        "randomness comes in as an argument",
    ),
    (
        &["disallowed_methods"],
        "clock.rs",
        "clippy.toml has no exceptions elsewhere",
    ),
];

/// For everything.
const ANYWHERE: &[Rule] = &[
    (&["todo", "!"], NOWHERE, "unfinished"),
    (&["unimplemented", "!"], NOWHERE, "unfinished"),
    (
        &["#", "[", "ignore"],
        NOWHERE,
        "a test that does not run is no test",
    ),
    (
        &[",", "ignore", ")"],
        NOWHERE,
        "a test that does not run is no test",
    ),
];

/// For tests, those inside `src` included.
const TESTS: &[Rule] = &[
    (&["sleep", "("], NOWHERE, "wait for what you wait for"),
    (&["sleep_until", "("], NOWHERE, "wait for what you wait for"),
];

const NOWHERE: &str = "\0";

#[test]
fn files_stay_small() {
    let mut wrong = Vec::new();
    let files = rust_files("src");
    for (file, text) in &files {
        let lines = text.lines().count();
        match LONG.iter().any(|(long, _)| long == file) {
            false if lines > LIMIT => wrong.push(format!(
                "src/{file}: {lines} lines. Does it hold two things?"
            )),
            true if lines <= LIMIT => {
                wrong.push(format!("src/{file}: {lines} lines. It needs no exception."))
            }
            _ => {}
        }
    }
    for (long, reason) in LONG {
        assert!(
            !reason.is_empty() && files.iter().any(|(file, _)| file == long),
            "src/{long}: no such file, or no reason"
        );
    }
    assert!(
        wrong.is_empty(),
        "the limit is {LIMIT} lines:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn words_stay_where_they_belong() {
    let mut wrong = Vec::new();
    let files = rust_files("src");
    let modules: Vec<_> = files.iter().flat_map(test_modules).collect();
    assert!(
        modules.contains(&"trail/note/tests".to_owned()),
        "{modules:?}"
    );
    for (file, text) in &files {
        let tokens = tokens(text);
        let is_test = modules.iter().any(|module| is_in(file, module));
        let tests = if is_test { &tokens } else { tests_of(&tokens) };
        wrong.extend(broken("src", file, &tokens, SOURCE));
        wrong.extend(broken("src", file, &tokens, ANYWHERE));
        wrong.extend(broken("src", file, tests, TESTS));
    }
    for (file, text) in rust_files("tests") {
        let tokens = tokens(&text);
        wrong.extend(broken("tests", &file, &tokens, ANYWHERE));
        // Timings are for benchmarks.
        if !file.starts_with("bench/") {
            wrong.extend(broken("tests", &file, &tokens, TESTS));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

/// The tests of a source file: what follows its first `#[cfg(test)]`.
fn tests_of<'a, 't>(tokens: &'a [Token<'t>]) -> &'a [Token<'t>] {
    let start = tokens
        .windows(TEST.len())
        .position(|window| window.iter().map(|token| token.text).eq(TEST));
    &tokens[start.unwrap_or(tokens.len())..]
}

/// The modules that a source file has for tests alone, in files of their own, as paths without an end.
fn test_modules((file, text): &(String, String)) -> Vec<String> {
    let folder = match file.strip_suffix("mod.rs") {
        Some(folder) => folder.to_owned(),
        None => file.replace(".rs", "/"),
    };
    let tokens = tokens(text);
    let windows = tokens.windows(TEST.len() + 3);
    let named = windows.filter_map(|window| {
        let (test, rest) = window.split_at(TEST.len());
        let is_test = test.iter().map(|token| token.text).eq(TEST);
        (is_test && rest[0].text == "mod" && rest[2].text == ";").then_some(rest[1].text)
    });
    named.map(|name| format!("{folder}{name}")).collect()
}

fn is_in(file: &str, module: &str) -> bool {
    let rest = file.strip_prefix(module);
    rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

fn broken(folder: &str, file: &str, tokens: &[Token], rules: &[Rule]) -> Vec<String> {
    let mut found = Vec::new();
    for (sequence, home, why) in rules.iter().filter(|(_, home, _)| !file.starts_with(home)) {
        let word = sequence.concat();
        let place = if *home == NOWHERE {
            "nowhere".to_owned()
        } else {
            format!("only in src/{home}")
        };
        let say = |line| format!("{folder}/{file}:{line}: `{word}` may stand {place}: {why}");
        found.extend(lines_with(tokens, sequence).into_iter().map(say));
    }
    // `use std::time::{Duration, Instant}` writes the same in another way.
    if rules == SOURCE && file != "clock.rs" {
        for group in groups(tokens, &["std", "::", "time", "::", "{"]) {
            let say = |token: &Token| {
                format!(
                    "{folder}/{file}:{}: std's Instant: use tokio's, which tests can pause",
                    token.line
                )
            };
            found.extend(
                group
                    .iter()
                    .filter(|token| token.text == "Instant")
                    .map(say),
            );
        }
    }
    found
}

/// What stands between the braces that each `start` opens.
fn groups<'a, 't>(tokens: &'a [Token<'t>], start: &[&str]) -> Vec<&'a [Token<'t>]> {
    let here = |at: &usize| {
        tokens[*at..]
            .iter()
            .zip(start)
            .filter(|(token, text)| token.text == **text)
            .count()
            == start.len()
    };
    let end = |at: usize| {
        tokens[at..]
            .iter()
            .position(|token| token.text == "}")
            .map_or(tokens.len(), |end| at + end)
    };
    (0..tokens.len())
        .filter(here)
        .map(|at| &tokens[at..end(at)])
        .collect()
}

#[test]
fn every_broken_habit_is_seen() {
    let seen = |file: &str, text: &str| {
        let tokens = tokens(text);
        let all = [
            broken("src", file, &tokens, SOURCE),
            broken("src", file, &tokens, ANYWHERE),
            broken("src", file, tests_of(&tokens), TESTS),
        ];
        all.concat().len()
    };
    assert_eq!(seen("flow/a.rs", "use sqlx::query;"), 1);
    assert_eq!(seen("store/a.rs", "use sqlx::query; // getrandom"), 0);
    assert_eq!(
        seen(
            "flow/a.rs",
            "let a = SystemTime::now(); let b = std::time::Instant::now(); getrandom::fill(x)"
        ),
        3
    );
    assert_eq!(
        seen(
            "flow/a.rs",
            "use std::time::{Duration, Instant}; use tokio::time::Instant;"
        ),
        1
    );
    assert_eq!(
        seen(
            "clock.rs",
            "#[expect(clippy::disallowed_methods)] fn f() { getrandom::fill(SystemTime::now()) }"
        ),
        0
    );
    assert_eq!(
        seen(
            "a.rs",
            "#[ignore = \"later\"] #[cfg_attr(unix, ignore)] fn f() { todo!(); unimplemented!() }"
        ),
        4
    );
    assert_eq!(
        seen(
            "a.rs",
            "sleep(poll); #[cfg(test)] mod tests { tokio::time::sleep(second) }"
        ),
        1
    );
}
