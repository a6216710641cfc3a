//! The architecture's table of who may use whom. In one crate the compiler does not keep it; this does.

use crate::support::source::{Token, rust_files, tokens};

/// What each top-level module may use. `telemetry` is open to everybody.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("token", &["domain"]),
    ("trail", &["domain"]),
    ("template", &["domain"]),
    ("message", &["domain", "token", "template"]),
    ("store", &["domain", "trail"]),
    (
        "flow",
        &["domain", "token", "message", "trail", "store", "clock"],
    ),
    ("smtp", &["domain"]),
    (
        "background",
        &[
            "store", "flow", "message", "smtp", "trail", "domain", "clock",
        ],
    ),
    ("http", &["flow", "domain", "token", "template"]),
    ("cli", &ALL),
    // Beside the table of the architecture: the parts that stand alone.
    ("config", &["domain"]),
    ("clock", &["domain"]),
    ("lifecycle", &[]),
    ("telemetry", &[]),
    ("lib", &[]),
    ("main", &["cli", "lifecycle"]),
];

const ALL: [&str; 14] = [
    "domain",
    "token",
    "trail",
    "template",
    "message",
    "store",
    "flow",
    "smtp",
    "background",
    "http",
    "config",
    "clock",
    "lifecycle",
    "telemetry",
];

/// A use of one top-level module by another.
#[derive(Debug, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    line: usize,
}

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let mut wrong = Vec::new();
    for (file, text) in rust_files("src") {
        let from = top(&file);
        let Some((_, allowed)) = MAY_USE.iter().find(|(module, _)| *module == from) else {
            wrong.push(format!("src/{file}: the module {from} is not in the table"));
            continue;
        };
        for edge in edges(&file, &text) {
            if edge.to != "telemetry" && !allowed.contains(&&*edge.to) {
                wrong.push(format!(
                    "src/{file}:{}: {} may not use {}",
                    edge.line, edge.from, edge.to
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that tests/it/edges.rs does not allow:\n{}",
        wrong.join("\n")
    );
}

/// Names the top-level module that a file belongs to: `flow/confirm.rs` is `flow`, `clock.rs` is `clock`.
fn top(file: &str) -> &str {
    file.split('/')
        .next()
        .unwrap_or(file)
        .trim_end_matches(".rs")
}

/// Tells how many `super` lead from a file's own module to the crate's root.
fn depth(file: &str) -> usize {
    match file.trim_end_matches(".rs").trim_end_matches("/mod") {
        "lib" | "main" => 0,
        module => module.split('/').count(),
    }
}

/// Collects the edges of one file: `crate::x`, `crate::{x, y}`, as many `super::` as reach the root, and `confirmd::x` in `main.rs`.
fn edges(file: &str, text: &str) -> Vec<Edge> {
    let tokens = tokens(text);
    let from = top(file);
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let mut found = Vec::new();
    // For each open brace: does it open a module written inside this file?
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut path = None;
        match tokens[at].text {
            "{" => braces.push(at >= 2 && is(at - 2, "mod")),
            "}" => drop(braces.pop()),
            "crate" => path = Some(at + 1),
            "confirmd" if from == "main" => path = Some(at + 1),
            "super" => {
                let supers = (at..tokens.len())
                    .step_by(2)
                    .take_while(|i| is(*i, "super") && is(i + 1, "::"))
                    .count();
                at += 2 * supers.saturating_sub(1);
                let inline = braces.iter().filter(|module| **module).count();
                path = (supers == depth(file) + inline && supers > 0).then_some(at + 1);
            }
            _ => {}
        }
        if let Some(next) = path.filter(|next| is(*next, "::")) {
            for target in first_names(&tokens[next + 1..]) {
                if target.text != from {
                    found.push(Edge {
                        from: from.to_owned(),
                        to: target.text.to_owned(),
                        line: target.line,
                    });
                }
            }
        }
        at += 1;
    }
    found
}

/// Names what a path begins with, or every path of a `{a::b, c, d::{e, f}}` group.
fn first_names<'t>(tokens: &[Token<'t>]) -> Vec<Token<'t>> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut first = true;
    for token in tokens {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => first = true,
            _ if first => {
                names.push(*token);
                first = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[test]
fn every_way_to_write_an_edge_is_seen() {
    let seen = |file: &str, text: &str| {
        edges(file, text)
            .into_iter()
            .map(|e| format!("{} {}", e.to, e.line))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen("domain/time.rs", "use crate::store::Tx;"), ["store 1"]);
    assert_eq!(
        seen(
            "flow/a.rs",
            "use crate::{\nhttp::{api, page},\nsmtp, flow::x};"
        ),
        ["http 2", "smtp 3"]
    );
    assert_eq!(
        seen("http/api/mod.rs", "fn f() { crate::store::read() }"),
        ["store 1"]
    );
    assert_eq!(
        seen(
            "http/api/x.rs",
            "use super::super::super::store;\nuse super::super::page;"
        ),
        ["store 1"]
    );
    assert_eq!(
        seen(
            "token.rs",
            "use super::clock::Clock;\n#[cfg(test)]\nmod tests { use super::*;\nuse super::super::cli::x; }"
        ),
        ["clock 1", "cli 4"]
    );
    assert_eq!(
        seen("flow/a.rs", "macro_rules! m { () => { $crate::http::x } }"),
        ["http 1"]
    );
    assert_eq!(
        seen("main.rs", "fn main() { confirmd::store::open() }"),
        ["store 1"]
    );
    assert_eq!(
        seen(
            "flow/a.rs",
            "//! [crate::http]\nuse crate::flow::b; // crate::smtp\npub(crate) const A: &str = \"crate::cli\";"
        ),
        [""; 0]
    );
}
