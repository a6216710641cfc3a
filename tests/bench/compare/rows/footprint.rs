//! Rows 14 and 15: resident memory, the time until it is ready, the size of the program.

use std::time::Duration;

use super::signups::{CONNECTIONS, sign_up_at};
use crate::Bench;
use crate::daemon::PROGRAM;
use crate::pairs::{Measure, alone};

const MEGABYTE: f64 = 1_048_576.0;

/// Rows 14 and 15.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let (must, aim) = if bench.filled > 0 {
        (64.0, 32.0)
    } else {
        (48.0, 24.0)
    };
    let measures = [
        Measure::new(14, "resident memory, idle for 5 s", "", "MB").at_most(20.0, 12.0),
        Measure::new(14, "resident memory, loaded", "", "MB").at_most(must, aim),
        Measure::new(14, "resident memory, its peak under load", "", "MB"),
        Measure::new(15, "start to ready", "", "ms").at_most(200.0, 50.0),
        Measure::new(15, "release binary", "", "MB").at_most(25.0, 15.0),
    ];
    let size = std::fs::metadata(PROGRAM).expect("the program").len();
    bench.pairs(measures, |_| {
        let home = bench.home(None);
        let daemon = home.serve();
        std::thread::sleep(Duration::from_secs(5));
        let idle = daemon.memory("VmRSS");
        sign_up_at(bench, &home, &[&daemon], CONNECTIONS);
        let (loaded, peak) = (daemon.memory("VmRSS"), daemon.memory("VmHWM"));
        drop(daemon);
        // A second start finds the database as a killed process left it.
        let (_again, ready) = home.serve_until_ready();
        [
            alone(idle),
            alone(loaded),
            alone(peak),
            alone(ready.as_secs_f64() * 1000.0),
            alone(size as f64 / MEGABYTE),
        ]
    })
}
