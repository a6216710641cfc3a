//! Faults, from outside: the real program is killed, cut off, frozen and starved, and what it promised is counted.
//!
//! `cargo test --test faults [-- RIG ...]` runs the short set and makes the published table again from its lines;
//! `cargo test --test faults -- --long [RIG ...] [--cycles N]` runs the long set, publishes a line of JSON a cycle in
//! `results/RIG.jsonl`, and writes `results/table.md`. Root is needed: for mounts, namespaces and another process's memory.
//!
//! The oracle is outside the program: the driver has each 202 on stable storage before it counts, the peer writes each mail
//! into its journal before its 250. Kills hit only processes that this one started. The seed is printed;
//! `CONFIRMD_TEST_SEED` sets it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures and verdicts are for whoever reads the run"
)]

mod disk;
mod line;
mod net;
mod plan;
mod rigs;
mod table;
mod world;

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the tests use more of it"
)]
mod support;

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use self::line::Made;
use self::plan::Plan;
use self::rigs::Rig;

/// Says that this process has its own mounts.
const INSIDE: &str = "CONFIRMD_FAULTS_INSIDE";
/// Rigs of the short set that run at a time.
const TOGETHER: u32 = 3;
/// Words of libtest that cargo passes to every test program.
const LIBTEST: [&str; 4] = ["--show-output", "--nocapture", "--no-capture", "--quiet"];

/// What to run.
#[derive(Debug, Default)]
struct Words {
    long: bool,
    table: bool,
    cycles: Option<usize>,
    /// Parts of names of rigs; none for all.
    rigs: Vec<String>,
}

fn words() -> Result<Words, String> {
    let mut words = Words::default();
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match &*word {
            "--long" => words.long = true,
            "--table" => words.table = true,
            "--cycles" => {
                let n = given.next().and_then(|n| n.parse().ok());
                words.cycles = Some(n.ok_or("--cycles: a number follows")?);
            }
            libtest if LIBTEST.contains(&libtest) => {}
            option if option.starts_with('-') => {
                return Err(format!("{option}: unknown; see tests/faults/main.rs"));
            }
            _ => words.rigs.push(word),
        }
    }
    Ok(words)
}

fn main() -> ExitCode {
    let words = match words() {
        Ok(words) => words,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if words.table {
        table::write();
        return ExitCode::SUCCESS;
    }
    let chosen = |rig: &Rig| {
        let named = |part: &String| rig.name().contains(&**part);
        let has_cycles = words.cycles.unwrap_or(rig.cycles(words.long)) > 0;
        has_cycles && (words.rigs.is_empty() || words.rigs.iter().any(named))
    };
    let rigs: Vec<Rig> = Rig::ALL.into_iter().filter(chosen).collect();
    if rigs.is_empty() {
        // A filter that is meant for other test programs.
        println!("no rig of that name");
        return ExitCode::SUCCESS;
    }
    if let Err(why) = alone() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    let seed = support::chance::seed();
    println!("faults: CONFIRMD_TEST_SEED={seed}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut wrong = runtime.block_on(LocalSet::new().run_until(run(&words, rigs, seed)));
    if !words.long {
        wrong.extend(table::check());
    }
    for what in &wrong {
        eprintln!("faults: {what}");
    }
    if wrong.is_empty() {
        println!("test result: ok. faults: every promise was kept");
        ExitCode::SUCCESS
    } else {
        println!("test result: FAILED. faults: {} findings", wrong.len());
        ExitCode::FAILURE
    }
}

/// Runs rigs and returns what was found. In the short set some run together: they wait for leases more than they work.
async fn run(words: &Words, rigs: Vec<Rig>, seed: u64) -> Vec<String> {
    let together = if words.long { 1 } else { TOGETHER };
    let turns = Arc::new(Semaphore::new(together as usize));
    let made = Made::here();
    let mut running = JoinSet::new();
    for rig in rigs {
        let cycles = words.cycles.unwrap_or(rig.cycles(words.long));
        let plan = Plan::new(rig.name(), cycles, seed, words.long, made.clone());
        let turns = turns.clone();
        running.spawn_local(async move {
            let its = if rig.is_alone() { together } else { 1 };
            let _turn = turns.acquire_many_owned(its).await.expect("open");
            println!("{}: {}", rig.name(), rig.says());
            let (plan, began) = (Arc::new(plan), Instant::now());
            rig.run(&plan).await;
            println!("  {}: {} s", rig.name(), began.elapsed().as_secs());
            if plan.long {
                table::write();
            }
            table::missing(rig, &plan.lines())
        });
    }
    running.join_all().await.concat()
}

/// Goes on in a namespace of its own: whatever is mounted there goes with this process.
fn alone() -> Result<(), String> {
    if std::env::var_os(INSIDE).is_some() {
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        let is_up = up.is_ok_and(|up| up.success());
        return is_up
            .then_some(())
            .ok_or_else(|| "faults: no loopback: apt-get install iproute2".to_owned());
    }
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        return Err("faults: mounts and namespaces need root; run as root: tests/run, or cargo test --test faults".to_owned());
    }
    for (program, package) in [
        ("unshare", "util-linux"),
        ("mount", "mount"),
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("strace", "strace"),
        ("mkfs.ext4", "e2fsprogs"),
    ] {
        let there = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
        if !there
            .iter()
            .any(|folder| std::path::Path::new(folder).join(program).exists())
        {
            return Err(format!("faults: no {program}: apt-get install {package}"));
        }
    }
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let error = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "--"])
        .arg(this)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "yes")
        .exec();
    Err(format!("unshare: {error}"))
}
