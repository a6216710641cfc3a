//! The published table, made from the lines and from nothing else; and what a set of lines must show.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::line::{Line, Phase, published, results};
use crate::rigs::Rig;

const FILE: &str = "table.md";

/// Says what the lines of a run do not show; nothing when they are as they must be.
pub fn missing(rig: Rig, lines: &[Line]) -> Vec<String> {
    let mut missing = Vec::new();
    let databases: BTreeSet<&str> = lines.iter().map(|line| &*line.database).collect();
    if databases.is_empty() {
        missing.push(format!("{}: no cycle", rig.name()));
    }
    for line in lines.iter().filter(|line| line.control.is_none()) {
        for wrong in line.wrong() {
            let Line {
                database,
                cycle,
                fault,
                seed,
                ..
            } = line;
            let name = rig.name();
            missing.push(format!(
                "{name} on {database}, cycle {cycle} ({fault}, seed {seed}): {wrong}"
            ));
        }
    }
    for database in databases {
        let all = || lines.iter().filter(|line| line.database == database);
        let real: Vec<&Line> = all().filter(|line| line.control.is_none()).collect();
        let name = format!("{} on {database}", rig.name());
        if !all().any(|line| line.control.is_some() && !line.wrong().is_empty()) {
            missing.push(format!(
                "{name}: no control was seen to fail, so the rig shows nothing"
            ));
        }
        let is_whole = real.len() >= rig.cycles(true);
        if matches!(rig, Rig::Kill | Rig::Replicas) && is_whole {
            let duplicates: usize = real.iter().map(|line| line.duplicates).sum();
            let (claimed, dot) = (hit(&real, |_| true), hit(&real, Phase::may_duplicate));
            if claimed * 5 < real.len() || dot * 25 < real.len() || duplicates == 0 {
                missing.push(format!(
                    "{name}: of {} kills {claimed} between claim and settle, {dot} between dot and settle, {duplicates} \
                     duplicates: too few, the rig shows nothing",
                    real.len()
                ));
            }
        }
    }
    missing
}

/// Counts the cycles whose fault hit a mail in one of these phases.
fn hit(lines: &[&Line], which: impl Fn(Phase) -> bool + Copy) -> usize {
    let hit = lines.iter().filter(|line| line.in_phases(which) > 0);
    hit.count()
}

/// Makes the table from all published lines.
pub fn table() -> String {
    let mut text = String::from(
        "# Faults, counted from outside\n\n\
         Made from the lines beside this file by `cargo test --test faults -- --long`; every test run makes it again from \
         them and compares. A control is the same rig with something broken on purpose: what it must see.\n\n\
         | Rig | Database | Fault | Cycles | Hit between claim and settle | Hit between dot and settle | 202s | Rows | Mailed | Lost \
         | Duplicates | Unexplained | Gaps | Checks failed |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut made: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for rig in Rig::ALL {
        let lines = published(rig.name());
        let mut groups: BTreeMap<(Option<&str>, &str, &str), Vec<&Line>> = BTreeMap::new();
        for line in &lines {
            let key = (line.control.as_deref(), &*line.database, fault(rig, line));
            groups.entry(key).or_default().push(line);
            let by = (line.commit.clone(), line.binary.clone());
            made.entry(by).or_default().insert(rig.name());
        }
        for ((control, database, fault), lines) in groups {
            row(&mut text, rig, control, database, fault, &lines);
        }
        if lines.is_empty() {
            let _ = writeln!(
                text,
                "| {} | | {} | not run | | | | | | | | | | |",
                rig.name(),
                rig.says()
            );
        }
    }
    text.push_str("\nRun with:\n\n");
    for ((commit, binary), rigs) in made {
        let rigs: Vec<&str> = rigs.into_iter().collect();
        let _ = writeln!(
            text,
            "- {}: commit {commit}, program {}",
            rigs.join(", "),
            &binary[..16]
        );
    }
    text
}

/// The rigs of steps have a row for each of them.
fn fault(rig: Rig, line: &Line) -> &str {
    match rig {
        Rig::Kill | Rig::Replicas | Rig::Power => rig.says(),
        _ => &line.fault,
    }
}

fn row(
    text: &mut String,
    rig: Rig,
    control: Option<&str>,
    database: &str,
    fault: &str,
    lines: &[&Line],
) {
    let sum = |of: fn(&Line) -> usize| lines.iter().map(|line| of(line)).sum::<usize>();
    let failed = lines.iter().filter(|line| {
        line.integrity != "ok" || line.too_slow().is_some() || !line.faults_seen.is_empty()
    });
    let control = control
        .map(|what| format!("**control** ({what}): "))
        .unwrap_or_default();
    let slower = lines.iter().filter_map(|line| line.slower);
    let slower = slower
        .reduce(f64::max)
        .map(|most| {
            format!("; elsewhere the 95th percentile is at most {most:.2} of its own before")
        })
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "| {} | {database} | {control}{fault}{slower} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        rig.name(),
        lines.len(),
        hit(lines, |_| true),
        hit(lines, Phase::may_duplicate),
        sum(|line| line.accepted),
        sum(|line| line.rows),
        sum(|line| line.mailed),
        sum(|line| line.lost),
        sum(|line| line.duplicates),
        sum(|line| line.unexplained),
        lines.iter().map(|line| line.gaps).max().unwrap_or(0),
        failed.count(),
    );
}

/// Writes the table.
pub fn write() {
    std::fs::write(results().join(FILE), table()).expect("the folder of results");
}

/// Compares the published table with its lines, and these with what they must show.
pub fn check() -> Vec<String> {
    let mut wrong = Vec::new();
    let kept = std::fs::read_to_string(results().join(FILE)).unwrap_or_default();
    if kept != table() {
        wrong.push(format!(
            "tests/faults/results/{FILE} is not what its lines say; run: cargo test --test faults -- --table"
        ));
    }
    for rig in Rig::ALL {
        let lines = published(rig.name());
        if !lines.is_empty() {
            wrong.extend(
                missing(rig, &lines)
                    .into_iter()
                    .map(|what| format!("published: {what}")),
            );
        }
    }
    wrong
}
