//! Numbers: 1, 2, 3 and so on up to the head.

use super::page::Page;
use super::report::{At, Check, Report};

/// Expects each number after the one before.
pub(super) struct Numbers {
    last: u64,
}

impl Numbers {
    pub fn after(last: u64) -> Self {
        Self { last }
    }

    pub fn page(&mut self, page: &Page, report: &mut Report) {
        for (row, _) in &page.rows {
            let Some(seq) = row
                .seq
                .and_then(|seq| u64::try_from(seq).ok())
                .filter(|seq| *seq > 0)
            else {
                let what = format!("event {} has the number {:?}", row.id, row.seq);
                report.add(Check::Numbers, At::Nothing, what);
                continue;
            };
            self.follow(seq, report);
            if seq > page.head.size {
                beyond(seq, page.head.size, report);
            }
        }
    }

    fn follow(&mut self, number: u64, report: &mut Report) {
        if number > self.last + 1 {
            self.gap(number - 1, report);
        }
        self.last = number;
    }

    fn gap(&self, to: u64, report: &mut Report) {
        let from = self.last + 1;
        let what = match from == to {
            true => format!("event {from} is missing"),
            false => format!("events {from} to {to} are missing"),
        };
        report.add(Check::Numbers, At::Event(from), what);
    }

    /// Expects the last event at the head, and the tree to reach as far.
    pub fn end(&mut self, head: u64, tree: u64, report: &mut Report) {
        if self.last < head {
            self.gap(head, report);
        }
        // On SQLite an event beyond the head stands like one without a number.
        if self.last <= head && tree > head {
            beyond(head + 1, head, report);
        }
        self.last = head;
    }

    /// Expects events without a number at the places that will be theirs, as SQLite gives them out.
    pub fn places(&mut self, page: &Page, report: &mut Report) {
        for (row, _) in &page.rows {
            self.follow(row.ord.unsigned_abs(), report);
        }
    }
}

fn beyond(seq: u64, head: u64, report: &mut Report) {
    let what = format!("event {seq} lies beyond the head of the trail, {head}");
    report.add(Check::Numbers, At::Event(seq), what);
}
