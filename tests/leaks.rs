//! Searches everything that confirmd's processes said for addresses and tokens that they must never say.
//!
//! `cargo test --test leaks -- --search=DIR` reads the secrets of `DIR/secrets/*` (one a line) and looks for each of them in
//! every file of `DIR/logs`: as it is (whatever the case), percent-encoded, quoted-printable, and in base64 at each of its three
//! alignments. It plants a canary in all of these forms beside the logs first, and fails when it does not find each of them.
//! Without that argument it only checks itself, on a folder of its own.
#![expect(clippy::print_stdout, reason = "a report is what it is for")]

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of a needle that are looked up while passing over the text.
const GRAM: usize = 6;
/// Base64 of fewer known characters would be found by chance.
const SHORTEST_BASE64: usize = 8;

/// The canary, and a text that another program made of it: one line for each form.
const CANARY: &str = "canary.planted+1@leak-search.example";
const PLANTED: &str = "\
info rcpt=CANARY.planted+1@Leak-Search.example outcome=sent
GET /p?email=canary%2Eplanted%2b1%40leak%2Dsearch.example HTTP/1.1
To: canary.planted=2B1=40leak-sear=
ch.example
Y2FuYXJ5LnBsYW50ZWQrMUBsZWFrLXNlYXJjaC5leGFtcGxl
VG86PGNhbmFyeS5wbGFudGVkKzFAbGVhay1
  zZWFyY2guZXhhbXBsZT4=
VE9jYW5hcnkucGxhbnRlZCsxQGxlYWstc2VhcmNoLmV4YW1wbGUg
";
/// Where the search must find it: line and form.
const PLANTS: [(usize, &str); 6] = [
    (1, PLAIN),
    (2, PERCENT),
    (3, QUOTED),
    (5, BASE64),
    (6, BASE64),
    (8, BASE64),
];

const PLAIN: &str = "as it is";
const PERCENT: &str = "percent-encoded";
const QUOTED: &str = "quoted-printable";
const BASE64: &str = "in base64";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let named = |argument: String| Some(PathBuf::from(argument.strip_prefix("--search=")?));
    let folder = std::env::args().find_map(named);
    let done = match folder {
        Some(folder) => search(&folder),
        None => check_itself(),
    };
    match done {
        Ok(report) if report.leaks.is_empty() => {
            println!(
                "{} secrets, {} MB of logs, no leak",
                report.secrets,
                report.bytes >> 20
            );
            ExitCode::SUCCESS
        }
        Ok(report) => {
            println!("{} leaks:", report.leaks.len());
            report
                .leaks
                .iter()
                .take(50)
                .for_each(|leak| println!("  {leak}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("the search for leaks failed: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Default)]
struct Report {
    secrets: usize,
    bytes: usize,
    leaks: Vec<String>,
}

/// Something that must not be found, and where it is written down.
struct Secret {
    text: String,
    origin: String,
}

fn search(folder: &Path) -> Result<Report> {
    let mut secrets = read_secrets(&folder.join("secrets"))?;
    if secrets.is_empty() {
        return Err(format!("no secret is written down in {}/secrets", folder.display()).into());
    }
    let mut report = Report {
        secrets: secrets.len(),
        ..Report::default()
    };
    let canary = secrets.len();
    secrets.push(Secret {
        text: CANARY.to_owned(),
        origin: "the canary".to_owned(),
    });
    let logs = folder.join("logs");
    let planted = logs.join("canary.txt");
    std::fs::create_dir_all(&logs)?;
    std::fs::write(&planted, PLANTED)?;

    let index = Index::new(&secrets);
    for path in files(&logs)? {
        let text = std::fs::read(&path)?;
        report.bytes += text.len();
        let mut found = index.find(&text);
        if path == planted {
            for (line, form) in PLANTS {
                if !found.iter().any(|hit| {
                    *hit == Hit {
                        line,
                        secret: canary,
                        form,
                    }
                }) {
                    return Err(format!(
                        "it is blind: the canary {form}, line {line}, was not found"
                    )
                    .into());
                }
            }
            found.retain(|hit| hit.secret != canary);
        }
        for Hit { line, secret, form } in found {
            let Secret { text, origin } = &secrets[secret];
            report.leaks.push(format!(
                "{}:{line}: {}, {form} (written down in {origin})",
                path.display(),
                mask(text)
            ));
        }
    }
    Ok(report)
}

fn read_secrets(folder: &Path) -> Result<Vec<Secret>> {
    let mut secrets: HashMap<String, String> = HashMap::new();
    for path in files(folder)? {
        for (at, line) in std::fs::read_to_string(&path)?.lines().enumerate() {
            let origin = format!("{}:{}", path.display(), at + 1);
            if line.len() < GRAM {
                return Err(format!(
                    "{origin}: a secret of {} bytes is too short to search for",
                    line.len()
                )
                .into());
            }
            secrets.entry(line.to_owned()).or_insert(origin);
        }
    }
    Ok(secrets
        .into_iter()
        .map(|(text, origin)| Secret { text, origin })
        .collect())
}

/// Lists the files of a folder in order; none where there is no folder.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    Ok(entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?)
}

/// Shows which secret it is to somebody who has the file, and nothing to others.
fn mask(secret: &str) -> String {
    let edge = |chars: &mut dyn Iterator<Item = char>| chars.take(2).collect::<String>();
    let end: String = edge(&mut secret.chars().rev()).chars().rev().collect();
    format!(
        "{}...{end} ({} bytes)",
        edge(&mut secret.chars()),
        secret.len()
    )
}

/// A secret found: line, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hit {
    line: usize,
    secret: usize,
    form: &'static str,
}

/// One form of a secret, with the place of its rarest bytes.
struct Needle {
    bytes: Vec<u8>,
    secret: usize,
    encoded: bool,
    rarest: usize,
}

/// All needles, found by their rarest `GRAM` bytes.
struct Index {
    needles: Vec<Needle>,
    grams: HashMap<u64, Vec<usize>>,
    /// One bit for each hash of a gram: most text is passed over with this alone.
    filter: Vec<u64>,
}

impl Index {
    fn new(secrets: &[Secret]) -> Index {
        let mut needles = Vec::new();
        for (secret, Secret { text, .. }) in secrets.iter().enumerate() {
            needles.push(Needle {
                bytes: text.clone().into(),
                secret,
                encoded: false,
                rarest: 0,
            });
            let encoded = (0..3)
                .flat_map(|shift| base64(text.as_bytes(), shift))
                .collect::<BTreeSet<_>>();
            needles.extend(encoded.into_iter().map(|bytes| Needle {
                bytes,
                secret,
                encoded: true,
                rarest: 0,
            }));
        }
        // Many secrets begin alike ("user", a token's version): their rarest bytes tell them apart.
        let mut counts: HashMap<u64, u32> = HashMap::new();
        for gram in needles.iter().flat_map(|needle| grams(&needle.bytes)) {
            *counts.entry(gram).or_default() += 1;
        }
        let mut index = Index {
            needles,
            grams: HashMap::new(),
            filter: vec![0; 1 << 18],
        };
        for (at, needle) in index.needles.iter_mut().enumerate() {
            let (rarest, gram) = grams(&needle.bytes)
                .enumerate()
                .min_by_key(|(_, gram)| counts[gram])
                .expect("long enough");
            needle.rarest = rarest;
            index.grams.entry(gram).or_default().push(at);
            let bit = bit(gram);
            index.filter[bit / 64] |= 1 << (bit % 64);
        }
        index
    }

    /// Finds every secret of a text, once a line.
    fn find(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        self.pass(&View::plain(text), PLAIN, &mut hits);
        if text.contains(&b'%') {
            self.pass(&View::decoded(text, percent), PERCENT, &mut hits);
        }
        if text.contains(&b'=') {
            self.pass(&View::decoded(text, quoted_printable), QUOTED, &mut hits);
        }
        self.pass(&View::decoded(text, joined), BASE64, &mut hits);
        hits
    }

    fn pass(&self, view: &View, form: &'static str, hits: &mut Vec<Hit>) {
        for (at, gram) in grams(&view.text).enumerate() {
            let bit = bit(gram);
            if self.filter[bit / 64] >> (bit % 64) & 1 == 0 {
                continue;
            }
            for needle in self
                .grams
                .get(&gram)
                .into_iter()
                .flatten()
                .map(|needle| &self.needles[*needle])
            {
                let Some(start) = at.checked_sub(needle.rarest) else {
                    continue;
                };
                let Some(there) = view.text.get(start..start + needle.bytes.len()) else {
                    continue;
                };
                let same = if needle.encoded {
                    form == BASE64 && *there == *needle.bytes
                } else {
                    form != BASE64 && there.eq_ignore_ascii_case(&needle.bytes)
                };
                let (line, secret) = (view.line(start), needle.secret);
                if same
                    && !hits
                        .iter()
                        .any(|hit| (hit.line, hit.secret) == (line, secret))
                {
                    hits.push(Hit { line, secret, form });
                }
            }
        }
    }
}

/// A text after decoding, and where in it each line of the file begins.
struct View {
    text: Vec<u8>,
    lines: Vec<usize>,
}

impl View {
    fn plain(text: &[u8]) -> View {
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        View {
            text: text.to_owned(),
            lines: ends.map(|(at, _)| at + 1).collect(),
        }
    }

    /// Applies `step`, which tells of the text before it how many bytes to take and what they mean.
    fn decoded(text: &[u8], step: fn(&[u8]) -> (usize, Option<u8>)) -> View {
        let mut view = View {
            text: Vec::with_capacity(text.len()),
            lines: Vec::new(),
        };
        let mut rest = text;
        while !rest.is_empty() {
            let (taken, byte) = step(rest);
            view.text.extend(byte);
            if rest[..taken].contains(&b'\n') {
                view.lines.push(view.text.len());
            }
            rest = &rest[taken..];
        }
        view
    }

    fn line(&self, at: usize) -> usize {
        1 + self.lines.partition_point(|start| *start <= at)
    }
}

fn percent(text: &[u8]) -> (usize, Option<u8>) {
    match text {
        [b'%', high, low, ..] if hex(*high, *low).is_some() => (3, hex(*high, *low)),
        _ => (1, Some(text[0])),
    }
}

fn quoted_printable(text: &[u8]) -> (usize, Option<u8>) {
    match text {
        [b'=', high, low, ..] if hex(*high, *low).is_some() => (3, hex(*high, *low)),
        [b'=', rest @ ..] if line_break(rest) > 0 => (1 + line_break(rest), None),
        _ => (1, Some(text[0])),
    }
}

/// Undoes the wrapping of base64: takes line breaks away, with the indentation after them.
fn joined(text: &[u8]) -> (usize, Option<u8>) {
    match line_break(text) {
        0 => (1, Some(text[0])),
        end => (
            end + text[end..]
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t'))
                .count(),
            None,
        ),
    }
}

/// The length of a line break, also of one that was written as `\r\n` or `\n` with a backslash.
fn line_break(text: &[u8]) -> usize {
    let breaks: [&[u8]; 4] = [b"\n", b"\r\n", br"\n", br"\r\n"];
    breaks
        .iter()
        .find(|end| text.starts_with(end))
        .map_or(0, |end| end.len())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Encodes what is certain of a text in base64 when `shift` unknown bytes stand before it, in both alphabets.
fn base64(text: &[u8], shift: usize) -> Vec<Vec<u8>> {
    let encode = |alphabet: &[u8; 2]| {
        let digit = |six: u32| match six as u8 {
            six @ 0..26 => b'A' + six,
            six @ 26..52 => b'a' + six - 26,
            six @ 52..62 => b'0' + six - 52,
            six => alphabet[usize::from(six - 62)],
        };
        // The first whole digit begins at a multiple of six bits; the unknown bytes end at 8 * shift.
        let first = (8 * shift).div_ceil(6);
        let last = 8 * (shift + text.len()) / 6;
        let bit = |at: usize| u32::from(text[at / 8 - shift] >> (7 - at % 8) & 1);
        let six = |digit: usize| (6 * digit..6 * digit + 6).fold(0, |six, at| six << 1 | bit(at));
        (first..last).map(|at| digit(six(at))).collect::<Vec<u8>>()
    };
    [encode(b"+/"), encode(b"-_")]
        .into_iter()
        .filter(|encoded| encoded.len() >= SHORTEST_BASE64)
        .collect()
}

/// Every run of `GRAM` bytes in lower case, as a number.
fn grams(text: &[u8]) -> impl Iterator<Item = u64> {
    let mut gram = 0;
    let all = text.iter().map(move |byte| {
        gram = (gram << 8 | u64::from(byte.to_ascii_lowercase())) & ((1 << (8 * GRAM)) - 1);
        gram
    });
    all.skip(GRAM - 1)
}

fn bit(gram: u64) -> usize {
    (gram.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

/// Shows the search a clean folder and four dirty ones.
fn check_itself() -> Result<Report> {
    let folder = std::env::temp_dir().join(format!("confirmd-leaks.{}", std::process::id()));
    std::fs::create_dir_all(folder.join("secrets"))?;
    std::fs::create_dir_all(folder.join("logs"))?;
    let checked = check_in(&folder);
    std::fs::remove_dir_all(&folder)?;
    checked
}

fn check_in(folder: &Path) -> Result<Report> {
    if search(folder).is_ok() {
        return Err("nothing to search for was taken for nothing found".into());
    }
    std::fs::write(
        folder.join("secrets/test.txt"),
        "anna@example.org\nAgEAAZx9Qk-v_3Yw\n",
    )?;
    let log = folder.join("logs/app.txt");
    std::fs::write(
        &log,
        "info started\ninfo anna@example.com is somebody else\n",
    )?;
    let clean = search(folder)?;
    if !clean.leaks.is_empty() {
        return Ok(clean);
    }
    let dirty = [
        "to=<Anna@example.org>",
        "/c/AgEAAZx9Qk-v_3Yw?",
        "anna%40example%2eorg",
        "anna=40exam=\\r\\nple.org",
        "eGFubmFAZXhhbXBsZS5vcmc=",
    ];
    for line in dirty {
        std::fs::write(&log, format!("info started\ninfo {line}\n"))?;
        let said = search(folder)?.leaks;
        if said.len() != 1 || !said[0].contains("app.txt:2: ") || said[0].contains("anna@") {
            return Err(format!("{line} gave {said:?}").into());
        }
    }
    Ok(clean)
}
