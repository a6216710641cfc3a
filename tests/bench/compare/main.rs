//! confirmd beside its floors, in turn, in one run: `cargo bench --bench compare [-- --rows 1,4,7 --pairs N --seconds S]`.
//!
//! A row of the table is one file in `rows/` with one function, which runs its pairs and returns what it measured. Every
//! run is on a fresh database whose durability was read back, and the counts are checked in it: a wrong one ends the program.
//! Nothing but loopback is used. Results of the whole table go to `tests/bench/results/`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a benchmark prints what the clock says"
)]

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use self::daemon::{Db, Home, SESSIONS};
use self::pairs::{Measure, Pair};

mod daemon;
mod fill;
mod filled;
mod floor;
mod links;
mod load;
mod machine;
mod pairs;
mod people;
mod plot;
mod postfix;
mod report;
mod rows;
mod sink;
mod strace;

#[path = "../../it/support/out.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod out;
#[path = "../../it/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres;
#[path = "../../it/support/process.rs"]
mod process;

/// What to run.
#[derive(Debug, Parser)]
struct Words {
    /// Rows of the table, with commas between; all unless said
    #[arg(long, value_delimiter = ',')]
    rows: Vec<u32>,
    /// Pairs of each row, at least
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds of load in one run: in a short one it weighs how a run begins and ends, and what is sustained shows in none
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Where results go; unless said, those of the whole table to `tests/bench/results`, those of some rows to `target/tmp/bench`
    #[arg(long)]
    out: Option<PathBuf>,
    /// Runs confirmd's side of the rows once, without floors and results: for a profile
    #[arg(long)]
    only_a: bool,
    /// Subscriptions that are there before rows 9, 10, 14 and 15 begin, and on the larger side of row 13
    #[arg(long, default_value_t = 0)]
    filled: u64,
    /// A folder that keeps this database for later runs, and has it if it was kept before
    #[arg(long, requires = "filled")]
    keep: Option<PathBuf>,
    /// Minutes of even load after row 14, whose memory must not grow
    #[arg(long, default_value_t = 0)]
    soak: u64,
    /// A part of this program that runs beside it
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// Cargo says this
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    Http,
    Sink,
}

/// What every row gets.
pub struct Bench {
    runtime: tokio::runtime::Runtime,
    pairs: usize,
    time: Duration,
    only_a: bool,
    filled: u64,
    keep: Option<PathBuf>,
    soak: u64,
    /// The home with so many subscriptions.
    full: OnceCell<Rc<Home>>,
}

fn main() {
    let words = Words::parse();
    let bench = Bench {
        runtime: tokio::runtime::Runtime::new().expect("a runtime"),
        pairs: words.pairs,
        time: Duration::from_secs_f64(words.seconds),
        only_a: words.only_a,
        filled: words.filled,
        keep: words.keep,
        soak: words.soak,
        full: OnceCell::new(),
    };
    match words.part {
        Some(Part::Http) => return bench.runtime.block_on(floor::http::serve()),
        Some(Part::Sink) => return bench.runtime.block_on(sink::serve()),
        None => {}
    }
    let out = words.out.unwrap_or_else(|| match words.rows.is_empty() {
        true => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/results").into(),
        // They must not take the place of what README shows.
        false => concat!(env!("CARGO_TARGET_TMPDIR"), "/bench").into(),
    });
    let mut report = report::Report::new(out);
    for (numbers, run) in rows::ALL {
        if words.rows.is_empty() || numbers.iter().any(|number| words.rows.contains(number)) {
            let measures = run(&bench);
            // One side alone has no verdict.
            if !words.only_a {
                report.add(measures);
            }
        }
    }
}

impl Bench {
    /// Runs the pairs of one row: as many as asked for, and up to twenty while what stands beside is restless.
    /// `pair` returns one pair for each of the measures.
    fn pairs<const N: usize>(
        &self,
        mut measures: [Measure; N],
        mut pair: impl FnMut(&mut [Measure; N]) -> [Pair; N],
    ) -> Vec<Measure> {
        const MOST: usize = 20;
        let least = if self.only_a { 1 } else { self.pairs };
        for n in 0..MOST.max(least) {
            if n >= least && (self.only_a || !measures.iter().any(Measure::is_restless)) {
                break;
            }
            let both = pair(&mut measures);
            for (measure, pair) in measures.iter_mut().zip(both) {
                let Measure {
                    row, what, unit, ..
                } = &*measure;
                let Pair { a, b } = pair;
                println!(
                    "    {row} {what}: {a:.4} beside {b:.4} {unit}: {:.3}",
                    a / b
                );
                measure.pairs.push(pair);
            }
        }
        measures.into()
    }

    /// Returns the other side, which is not run when only confirmd's is asked for.
    fn beside(&self, run: impl FnOnce() -> f64) -> f64 {
        if self.only_a { 1.0 } else { run() }
    }

    /// Returns a home on SQLite with as many subscriptions as asked for. They are filled in once: by what one run adds, the
    /// next does not notice.
    fn home(&self, relay: Option<SocketAddr>) -> Rc<Home> {
        if self.filled == 0 {
            return Home::new(Db::Sqlite, relay).into();
        }
        let full = || {
            let home = match &self.keep {
                Some(dir) => filled::kept(self, dir, self.filled),
                None => filled::home(self, Db::Sqlite, self.filled),
            };
            filled::warm(self, &home);
            home.into()
        };
        let home = self.full.get_or_init(full).clone();
        rows::mailed::send_leftovers(self, &home);
        home.count_from_now();
        home.deliver_to(relay, SESSIONS);
        home
    }

    /// A closed loop for the usual time.
    fn closed(&self, to: Vec<SocketAddr>, connections: usize, expect: u16) -> load::Plan {
        load::Plan {
            pace: load::Pace::Closed,
            to,
            connections,
            time: self.time,
            numbers: 0..u64::MAX,
            expect,
        }
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}
