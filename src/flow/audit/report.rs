//! What verification says: what is wrong, where first, and what to do.

use std::fmt;

use crate::store::audit::EventRow;

/// What is checked, each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Numbers run from 1 to the head without gap or repeat.
    Numbers,
    /// The columns beside a leaf say what the leaf says.
    Copies,
    /// The tree is that of the leaves.
    Tree,
    /// The checkpoints in the database are signed, and sign this tree.
    Checkpoints,
    /// So are those that somebody else holds.
    Outside,
    /// The personal facts are those that events committed to.
    Evidence,
    /// The state tables are what the events made of them.
    Replay,
    /// Words and facts of lists are those of their hashes.
    Catalog,
}

impl Check {
    /// Every check, in the order of their running.
    pub const ALL: [Check; 8] = [
        Check::Numbers,
        Check::Copies,
        Check::Tree,
        Check::Checkpoints,
        Check::Outside,
        Check::Evidence,
        Check::Replay,
        Check::Catalog,
    ];

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Check::Numbers => "numbers",
            Check::Copies => "copies",
            Check::Tree => "tree",
            Check::Checkpoints => "checkpoints",
            Check::Outside => "outside",
            Check::Evidence => "evidence",
            Check::Replay => "replay",
            Check::Catalog => "catalog",
        }
    }

    /// Tells whether it looks at the trail itself; what is beside the trail is compared with it.
    fn is_of_the_trail(self) -> bool {
        self <= Check::Outside
    }

    /// Says what to do where the database does not hold it.
    fn remedy(self) -> &'static str {
        match self {
            Check::Numbers | Check::Tree | Check::Checkpoints | Check::Outside => {
                "stop the daemon, keep this database as it is for whoever has to look, and compare it with a backup and with exports that others hold; after restoring a backup run `confirmd audit epoch --reason \"...\"`"
            }
            Check::Copies => {
                "the leaf is what was signed: put the column back to what it says, or restore a backup"
            }
            Check::Evidence => {
                "restore this part of the evidence from a backup; if it was erased on purpose, that must be done by confirmd, which records it"
            }
            Check::Replay => {
                "the events are what was signed: put the row back to what they say, or restore a backup; mail nobody whose row is named here until then"
            }
            Check::Catalog => {
                "restore the text from a backup or from the configuration of that time"
            }
        }
    }
}

/// Which checks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks([bool; Check::ALL.len()]);

impl Default for Checks {
    fn default() -> Self {
        Self([true; Check::ALL.len()])
    }
}

impl Checks {
    /// Leaves one out.
    pub fn without(mut self, check: Check) -> Self {
        self.0[check as usize] = false;
        self
    }

    /// Tells whether one runs.
    pub fn has(self, check: Check) -> bool {
        self.0[check as usize]
    }
}

/// Where something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At this event.
    Event(u64),
    /// At some event from the first to the second.
    Between(u64, u64),
    /// At an event that has no number yet.
    Waiting,
    /// At no event: none explains it.
    Nothing,
}

impl At {
    /// Returns where a row of the trail stands.
    pub fn row(row: &EventRow) -> Self {
        match row.seq {
            Some(seq) => At::Event(seq.unsigned_abs()),
            None => At::Waiting,
        }
    }

    /// Orders places as the trail does; what can be told exactly goes before what contains it.
    fn order(self) -> (u64, u64) {
        match self {
            At::Event(seq) => (seq, 0),
            At::Between(_, to) => (to, 1),
            At::Waiting => (u64::MAX, 0),
            At::Nothing => (u64::MAX, 1),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Event(seq) => write!(f, "event {seq}"),
            At::Between(from, to) if from >= to => write!(f, "event {to}"),
            At::Between(from, to) => write!(f, "an event from {from} to {to}"),
            At::Waiting => f.write_str("an event without a number"),
            At::Nothing => f.write_str("no event"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// Where.
    pub at: At,
    /// What.
    pub what: String,
}

/// Findings that are kept; of more only the number is.
const KEPT: usize = 100;

/// What verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is wrong, the trail itself first: a hundred at most.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub wrong: u64,
    /// How many events there are.
    pub events: u64,
    /// How many signatures were good, in the database or the file.
    pub checkpoints: u64,
    /// How many events lie under the last of these.
    pub signed: u64,
    /// How many notes outside the database agree.
    pub outside: u64,
    /// How many subscribers stand where their events left them.
    pub subscribers: u64,
    /// What is no fault and should be known.
    pub notes: Vec<String>,
    /// Whether it is of an export: who verifies one has no database to put right.
    pub of_export: bool,
}

impl Report {
    /// Takes a finding.
    pub fn add(&mut self, check: Check, at: At, what: impl Into<String>) {
        self.wrong += 1;
        let what = what.into();
        self.findings.push(Finding { check, at, what });
        if self.findings.len() >= 2 * KEPT {
            self.sort();
        }
    }

    /// Puts what is wrong with the trail itself before what is wrong beside it, and either in the order of the trail.
    pub(super) fn sort(&mut self) {
        self.findings
            .sort_by_key(|finding| (!finding.check.is_of_the_trail(), finding.at.order()));
        self.findings.truncate(KEPT);
    }

    /// Says what to do about a finding.
    pub fn remedy(&self, finding: &Finding) -> &'static str {
        match self.of_export {
            true => {
                "keep this file as it is, and ask whoever made it for the export again: this is not what was signed"
            }
            false => finding.check.remedy(),
        }
    }

    /// Returns the first thing that is wrong.
    pub fn first(&self) -> Option<&Finding> {
        self.findings.first()
    }
}
