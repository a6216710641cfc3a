//! The project's own source text, for the tests that keep its rules.

use std::path::{Path, PathBuf};

/// A word, `::`, or one sign of Rust text, with the line it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    pub text: &'t str,
    pub line: usize,
}

/// Reads every `.rs` file below a folder of the project: path relative to that folder, and text.
pub fn rust_files(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    assert!(!files.is_empty(), "no Rust files below {folder}");
    let relative = |path: &Path| {
        path.strip_prefix(&root)
            .expect("below the root")
            .to_str()
            .expect("UTF-8")
            .to_owned()
    };
    files
        .iter()
        .map(|path| {
            (
                relative(path),
                std::fs::read_to_string(path).expect("a source file"),
            )
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a folder's entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Cuts Rust text into tokens. Comments (and so doc links), strings and character literals are left out.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let start = at;
        at = match skipped(&text[at..]) {
            0 if is_word(bytes[at]) => at + bytes[at..].iter().take_while(|b| is_word(**b)).count(),
            0 if bytes[at..].starts_with(b"::") => at + 2,
            0 => at + 1,
            skip => {
                line += text[at..at + skip].matches('\n').count();
                at += skip;
                continue;
            }
        };
        found.push(Token {
            text: &text[start..at],
            line,
        });
    }
    found
}

/// Tells where a sequence of tokens stands, as lines.
pub fn lines_with(tokens: &[Token], sequence: &[&str]) -> Vec<usize> {
    let here = |window: &&[Token]| {
        window
            .iter()
            .map(|token| token.text)
            .eq(sequence.iter().copied())
    };
    tokens
        .windows(sequence.len())
        .filter(here)
        .map(|window| window[0].line)
        .collect()
}

/// Tells how many bytes at the start are white space, a comment or a literal with quotes.
fn skipped(text: &str) -> usize {
    let line_end = text.find('\n').unwrap_or(text.len());
    let mut chars = text.chars();
    match chars.next().expect("not at the end") {
        c if c.is_whitespace() => c.len_utf8(),
        '/' if text.starts_with("//") => line_end,
        '/' if text.starts_with("/*") => block_comment(text),
        '\'' => char_literal(text),
        '"' => string_literal(text),
        'r' | 'b' | 'c' => prefixed_literal(text),
        _ => 0,
    }
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            [] => return at,
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
}

/// `'x'` and `'\n'` are literals; `'a` is a lifetime, of which the quote alone is left out.
fn char_literal(text: &str) -> usize {
    let mut chars = text[1..].char_indices();
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            let rest = 1 + escaped + 1;
            rest + text[rest..].find('\'').map_or(0, |end| end + 1)
        }
        (_, Some((end, '\''))) => 1 + end + 1,
        _ => 1,
    }
}

fn string_literal(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// `b'x'`, `b"..."`, `r"..."`, `br#"..."#` and their like; 0 for a word that only begins with these letters.
fn prefixed_literal(text: &str) -> usize {
    let letters = text
        .bytes()
        .take_while(|b| matches!(b, b'r' | b'b' | b'c'))
        .count();
    let hashes = text[letters..].bytes().take_while(|b| *b == b'#').count();
    let open = letters + hashes;
    match text.as_bytes().get(open) {
        Some(b'"') if text[..letters].contains('r') => {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = open + 1;
            body + text[body..]
                .find(&close)
                .map_or(text.len() - body, |end| end + close.len())
        }
        Some(b'"') if hashes == 0 => open + string_literal(&text[open..]),
        Some(b'\'') if &text[..open] == "b" => open + char_literal(&text[open..]),
        _ => 0,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[test]
fn literals_and_comments_are_no_tokens() {
    let text = r##"use a::b; // c::d
        /* e /* f */ g */ let x: &'y str = "h \" i"; /// [j]
        let z = (r#"k " l"#, b"m", b'n', '\'', '"', '\u{1f600}', "o
        p", r"q\"); bracket(row);"##;
    let words: Vec<_> = tokens(text)
        .iter()
        .map(|token| token.text)
        .collect::<Vec<_>>();
    let expected = "use a :: b ; let x : & y str = ; let z = ( , , , , , , , ) ; bracket ( row ) ;";
    assert_eq!(words.join(" "), expected);
    assert_eq!(lines_with(&tokens(text), &["bracket", "("]), [4]);
}
