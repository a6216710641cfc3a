//! What the figures were measured on.

use std::process::Command;

use serde::Serialize;

/// The machine and the versions.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub confirmd: String,
    pub commit: String,
    pub rustc: String,
    pub sqlite: String,
    pub postgres: String,
    pub postfix: String,
    pub fdatasync_ms: (f64, f64),
    /// What else ran in the minute before: above a half the figures say little.
    pub load: f64,
}

impl Machine {
    /// Looks around.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let (p50, p99) = crate::floor::disk::fdatasync();
        let root = env!("CARGO_MANIFEST_DIR");
        let dirty = !said(
            "git",
            &[
                "-C",
                root,
                "status",
                "--porcelain",
                "--",
                ".cargo",
                "Cargo.toml",
                "Cargo.lock",
                "config",
                "migrations",
                "src",
                "templates",
                "tests/bench/compare",
            ],
        )
        .is_empty();
        let commit = said("git", &["-C", root, "rev-parse", "--short", "HEAD"]);
        Self {
            cpu: model.map(|(_, name)| name.to_owned()).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            confirmd: said(crate::daemon::PROGRAM, &["--version"]),
            commit: if dirty {
                format!("{commit} and changes")
            } else {
                commit
            },
            rustc: said("rustc", &["--version"]),
            sqlite: rusqlite::version().to_owned(),
            postgres: said("psql", &["--version"]),
            postfix: said("/usr/sbin/postconf", &["-d", "-h", "mail_version"]),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(f64::NAN),
            fdatasync_ms: (p50.as_secs_f64() * 1000.0, p99.as_secs_f64() * 1000.0),
        }
    }
}

fn said(program: &str, words: &[&str]) -> String {
    let done = Command::new(program).args(words).output();
    done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned())
        .unwrap_or_default()
}
