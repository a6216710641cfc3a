//! The simulation of delivery finds faults: each of these, planted in one line of the engine, makes it fail.
//!
//! The engine's decisions need nothing but time, so that they are compiled here by themselves, a few seconds each.

use std::path::{Path, PathBuf};
use std::process::Command;

const ENGINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/domain/delivery");

/// File, line, what stands there instead.
const PLANTED: &[(&str, &str, &str)] = &[
    (
        "retry.rs",
        "Attempt::Ambiguous if ambiguous > 1",
        "Attempt::Ambiguous if ambiguous > 2",
    ),
    (
        "retry.rs",
        "Duration::from_secs(30 * 60)",
        "Duration::from_secs(3 * 60)",
    ),
    ("retry.rs", "if at < end {", "if at < end + LIFE {"),
    (
        "retry.rs",
        "_ => MessageState::Unknown,",
        "_ => MessageState::Failed,",
    ),
    (
        "retry.rs",
        "0 | 1 => Duration::from_secs(60)",
        "0 | 1 => Duration::from_secs(6)",
    ),
    (
        "breaker.rs",
        "const FAILURES: u32 = 3;",
        "const FAILURES: u32 = 3000;",
    ),
    (
        "breaker.rs",
        "Duration = Duration::from_secs(300)",
        "Duration = Duration::from_secs(30_000)",
    ),
    (
        "breaker.rs",
        "                *self = Self::default();\n",
        "",
    ),
    ("pace.rs", "growing.min(cap)", "growing.max(cap)"),
    ("pace.rs", ".min((rate * BURST.as_secs_f64()).max(1.0))", ""),
    ("turns.rs", ">= self.sessions", "> self.sessions + 1"),
    ("turns.rs", "(self.sessions / 2).max(1)", "self.sessions"),
    ("turns.rs", "            *running -= 1;\n", ""),
];

/// Stands for what the engine uses of the rest: the time, and two enums.
const AROUND: &str = r#"
#![allow(dead_code, missing_docs)]
mod domain {
    pub mod time {
        use std::ops::{Add, Sub};
        use std::time::Duration;
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct Timestamp(i64);
        impl Timestamp {
            pub const fn from_seconds(seconds: i64) -> Self { Self(seconds * 1_000_000) }
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
            }
        }
        impl Add<Duration> for Timestamp {
            type Output = Self;
            fn add(self, by: Duration) -> Self { Self(self.0 + by.as_micros() as i64) }
        }
        impl Sub<Duration> for Timestamp {
            type Output = Self;
            fn sub(self, by: Duration) -> Self { Self(self.0 - by.as_micros() as i64) }
        }
    }
    pub mod delivery {
        #[path = "PLACE/breaker.rs"] pub mod breaker;
        #[path = "PLACE/pace.rs"] pub mod pace;
        #[path = "PLACE/retry.rs"] pub mod retry;
        #[path = "PLACE/turns.rs"] pub mod turns;
        #[path = "PLACE/simulation/mod.rs"] mod simulation;
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Attempt { Sent, Failed, Deferred, Ambiguous, Arrived }
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum MessageState { Queued, Claimed, Sent, Withheld, Cancelled, Failed, Unknown, Quarantined }
    }
}
"#;

/// Copies the engine, with a fault or without.
fn engine(place: &Path, planted: Option<&(&str, &str, &str)>) {
    let files = ["breaker.rs", "pace.rs", "retry.rs", "turns.rs"];
    let simulation = ["simulation/mod.rs", "simulation/process.rs"];
    std::fs::create_dir(place.join("simulation")).expect("a folder");
    for file in files.iter().chain(&simulation) {
        let mut text = std::fs::read_to_string(Path::new(ENGINE).join(file)).expect("a file");
        if let Some((_, line, instead)) = planted.filter(|(name, ..)| name == file) {
            assert_eq!(text.matches(line).count(), 1, "{file} has one {line:?}");
            text = text.replace(line, instead);
        }
        std::fs::write(place.join(file), text).expect("a file");
    }
    let around = AROUND.replace("PLACE", &place.display().to_string());
    std::fs::write(place.join("around.rs"), around).expect("a file");
}

/// Compiles and runs the simulation; returns whether it passed, and what it said.
fn simulate(planted: Option<&(&str, &str, &str)>) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    engine(folder.path(), planted);
    let program: PathBuf = folder.path().join("simulation-test");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let compiled = Command::new(rustc)
        .args([
            "--edition",
            "2024",
            "--test",
            "-C",
            "opt-level=1",
            "-A",
            "warnings",
            "-o",
        ])
        .arg(&program)
        .arg(folder.path().join("around.rs"))
        .output()
        .expect("rustc, which compiled this, is in PATH");
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{planted:?}: {said}");
    let ran = Command::new(&program)
        .arg("simulation")
        .output()
        .expect("it runs");
    (
        ran.status.success(),
        String::from_utf8_lossy(&ran.stdout).into_owned(),
    )
}

#[test]
fn every_planted_fault_is_found() {
    let (passed, said) = simulate(None);
    assert!(passed, "the engine as it is: {said}");
    for planted in PLANTED {
        let (passed, said) = simulate(Some(planted));
        assert!(!passed, "not found: {planted:?}");
        let found = said.lines().find(|line| line.starts_with("seed "));
        assert!(found.is_some(), "{planted:?} fails otherwise: {said}");
        println!("{}: {} -> {found:?}", planted.0, planted.1.trim());
    }
}
