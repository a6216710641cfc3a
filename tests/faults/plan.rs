//! What a rig is asked for, and where its lines go.

use std::sync::{Mutex, PoisonError};

use crate::line::{Line, Made, publish, published};

/// One run of one rig.
pub struct Plan {
    pub rig: &'static str,
    /// Cycles on each database.
    pub cycles: usize,
    pub seed: u64,
    /// Whether lines are published.
    pub long: bool,
    made: Made,
    lines: Mutex<Vec<Line>>,
}

impl Plan {
    pub fn new(rig: &'static str, cycles: usize, seed: u64, long: bool, made: Made) -> Plan {
        Plan {
            rig,
            cycles,
            seed,
            long,
            made,
            lines: Mutex::default(),
        }
    }

    /// Begins a line.
    pub fn line(&self, database: &str, control: Option<&str>) -> Line {
        Line {
            rig: self.rig.to_owned(),
            database: database.to_owned(),
            commit: self.made.commit.clone(),
            binary: self.made.binary.clone(),
            seed: self.seed,
            control: control.map(str::to_owned),
            ..Line::default()
        }
    }

    /// Takes the lines of one home, numbers them and, in a long run, publishes them.
    pub fn record(&self, mut new: Vec<Line>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match self.long {
            true => published(self.rig),
            false => lines.clone(),
        };
        let before = before
            .into_iter()
            .map(|line| (line.database, line.control.is_some()));
        let mut before: Vec<_> = before.collect();
        for line in &mut new {
            let like = (line.database.clone(), line.control.is_some());
            before.push(like.clone());
            line.cycle = before.iter().filter(|known| **known == like).count();
            lines.push(line.clone());
        }
        if self.long {
            publish(&new);
        }
        let sum = |of: fn(&Line) -> usize| new.iter().map(of).sum::<usize>();
        println!(
            "  {} {}{}: {} cycles, {} accepted, {} lost, {} duplicates, {} unexplained",
            self.rig,
            new.first().map_or("", |line| &line.database),
            new.iter()
                .find_map(|line| line.control.as_ref())
                .map_or("", |_| " (control)"),
            new.len(),
            sum(|line| line.accepted),
            sum(|line| line.lost),
            sum(|line| line.duplicates),
            sum(|line| line.unexplained),
        );
        for line in new.iter().filter(|line| line.control.is_none()) {
            let wrong = line.wrong();
            if !wrong.is_empty() {
                println!("  {}: {}", wrong.join("; "), serde_json::json!(line));
            }
        }
    }

    /// Returns all lines of the run.
    pub fn lines(&self) -> Vec<Line> {
        let lines = self.lines.lock();
        lines.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
