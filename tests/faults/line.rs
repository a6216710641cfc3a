//! What one cycle showed: one line of JSON in the file of its rig.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::support::app::Db;

/// How far a mail had come when the fault hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Claimed; the relay knows nothing of its recipient.
    Claimed,
    /// Its recipient was named, its text was not sent.
    BeforeDot,
    /// Its text was sent, the answer was not written.
    Dot,
    /// The answer was written, and nothing was settled.
    Replied,
}

impl Phase {
    /// Tells whether the relay may have the mail while nobody has written that down.
    pub fn may_duplicate(self) -> bool {
        matches!(self, Phase::Dot | Phase::Replied)
    }
}

/// So many times as slow as before is what a healthy domain must never be.
const TWICE: f64 = 2.0;

/// One cycle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub rig: String,
    pub database: String,
    /// The commit, with a mark when files differed from it.
    pub commit: String,
    /// SHA-256 of the program.
    pub binary: String,
    pub seed: u64,
    pub cycle: usize,
    /// What was broken on purpose, so that the rig must see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// What happened to the program, and where.
    pub fault: String,
    /// Mails in flight when it happened.
    pub in_flight: BTreeMap<Phase, usize>,
    /// 202s that the driver has on stable storage, since the cycle before.
    pub accepted: usize,
    /// Of these, signups in the database.
    pub rows: usize,
    /// Of these, mailed at least once by the peer's journal.
    pub mailed: usize,
    /// Of these, not mailed and waiting: the answer to the dot was lost, or they were set aside for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<usize>,
    /// Of these, neither kept nor brought to an end that is written down.
    pub lost: usize,
    /// Second copies of mails that were in flight at this fault, between dot and settle.
    pub duplicates: usize,
    /// Second copies that no fault explains.
    pub unexplained: usize,
    /// Gaps in the trail and changes without their event, when all was over.
    pub gaps: usize,
    /// "ok", or what the database's and the trail's own checks said.
    pub integrity: String,
    /// The 95th percentile of mails that have nothing to do with the fault, as a multiple of their own before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower: Option<f64>,
    /// Anything else that the rig must not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults_seen: Vec<String>,
}

impl Line {
    /// Says what is wrong with a cycle; nothing when the promises were kept.
    pub fn wrong(&self) -> Vec<String> {
        let counts = [
            ("lost", self.lost),
            ("kept and given up", self.given_up()),
            ("copies that no fault explains", self.unexplained),
            ("gaps in the trail", self.gaps),
        ];
        let mut wrong: Vec<String> = counts
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(what, n)| format!("{n} {what}"))
            .collect();
        if self.integrity != "ok" {
            wrong.push(self.integrity.clone());
        }
        let slower = self.too_slow();
        wrong
            .extend(slower.map(|n| format!("mails elsewhere take {n:.2} times as long as before")));
        wrong.extend(self.faults_seen.iter().cloned());
        wrong
    }

    /// Counts the mails that ended without the relay's word.
    fn given_up(&self) -> usize {
        let explained = |waits| self.mailed + self.lost + waits;
        self.waits
            .map_or(0, |waits| self.accepted.saturating_sub(explained(waits)))
    }

    /// Returns how much slower mails became that have nothing to do with the fault, where that is too much.
    pub fn too_slow(&self) -> Option<f64> {
        self.slower.filter(|slower| *slower >= TWICE)
    }

    /// Counts the mails that were in flight, in these phases.
    pub fn in_phases(&self, which: impl Fn(Phase) -> bool) -> usize {
        let phases = self.in_flight.iter().filter(|(phase, _)| which(**phase));
        phases.map(|(_, n)| n).sum()
    }
}

/// Returns how a database is called in a line.
pub fn name(db: Db) -> &'static str {
    match db {
        Db::Sqlite => "sqlite",
        Db::Postgres => "postgres",
    }
}

/// The folder of the published results.
pub fn results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/results")
}

/// Reads the published lines of a rig; none when it was never run.
///
/// # Panics
/// When a line is none.
pub fn published(rig: &str) -> Vec<Line> {
    let path = results().join(format!("{rig}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let read = |(n, line): (usize, &str)| {
        let read = serde_json::from_str(line);
        read.unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), n + 1))
    };
    text.lines().enumerate().map(read).collect()
}

/// Appends lines to the published ones of their rig.
pub fn publish(lines: &[Line]) {
    for line in lines {
        let path = results().join(format!("{}.jsonl", line.rig));
        let mut text = serde_json::to_string(line).expect("JSON");
        text.push('\n');
        let file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (&file).write_all(text.as_bytes()).expect("written");
    }
}

/// What was run: the commit and the hash of the program.
#[derive(Clone, Debug)]
pub struct Made {
    pub commit: String,
    pub binary: String,
}

impl Made {
    /// Looks at the program and at the files it was built from.
    pub fn here() -> Made {
        let git = |words: &[&str]| {
            let root = env!("CARGO_MANIFEST_DIR");
            let done = Command::new("git").args(["-C", root]).args(words).output();
            done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned())
                .unwrap_or_default()
        };
        let head = git(&["rev-parse", "--short=12", "HEAD"]);
        let differs = git(&[
            "status",
            "--porcelain",
            "--",
            "src",
            "migrations",
            "templates",
            "config",
            "Cargo.lock",
        ]);
        let program = std::fs::read(env!("CARGO_BIN_EXE_confirmd")).expect("the program");
        let hash = Sha256::digest(program);
        Made {
            commit: if differs.is_empty() {
                head
            } else {
                format!("{head}-dirty")
            },
            binary: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}
