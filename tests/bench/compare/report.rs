//! What is told: lines while it runs; then, after each row, all results anew as JSON, Markdown and plots.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use crate::machine::Machine;
use crate::pairs::{Goal, Measure};
use crate::plot;

/// Collects measures.
pub struct Report {
    out: PathBuf,
    machine: Machine,
    measures: Vec<Measure>,
}

impl Report {
    /// Takes the folder of results; looks at the machine and says what it is.
    pub fn new(out: PathBuf) -> Self {
        let machine = Machine::here();
        println!("{}", sentence(&machine));
        Self {
            out,
            machine,
            measures: Vec::new(),
        }
    }

    /// Prints what a row measured, and writes all results.
    pub fn add(&mut self, measures: Vec<Measure>) {
        for measure in &measures {
            println!("{}", line(measure));
        }
        self.measures.extend(measures);
        let out = &self.out;
        std::fs::create_dir_all(out).expect("the folder of results");
        let measures = self.measures.iter().map(|measure| {
            let mut value = json!(measure);
            value["ratio"] = json!(measure.ratios());
            value["verdict"] = json!(measure.verdict().as_str());
            value
        });
        let all = json!({ "machine": self.machine, "measures": measures.collect::<Vec<_>>() });
        let write =
            |name: &str, text: String| std::fs::write(out.join(name), text).expect("a file");
        write("results.json", format!("{all:#}\n"));
        write("results.md", self.markdown());
        write("ratios.svg", plot::ratios(&self.measures));
        write("latency.svg", plot::latencies(&self.measures));
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n\n| # | What | Beside | Median (least to most) | Ratio (least to most) | Must | Aim | Verdict |\n|---|---|---|---|---|---|---|---|\n",
            sentence(&self.machine)
        );
        for measure in &self.measures {
            let [must, aim] = goals(measure.goal);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} {} | {} | {must} | {aim} | {} |",
                measure.row,
                measure.what,
                measure.beside,
                spread(measure.side(|pair| pair.a)),
                measure.unit,
                if measure.is_alone() {
                    String::new()
                } else {
                    spread(measure.ratios())
                },
                measure.verdict().as_str()
            );
            for note in &measure.notes {
                let _ = writeln!(text, "| | {note} | | | | | | |");
            }
        }
        text
    }
}

fn sentence(machine: &Machine) -> String {
    let Machine {
        confirmd,
        commit,
        rustc,
        sqlite,
        postgres,
        postfix,
        cpu,
        cores,
        kernel,
        ..
    } = machine;
    let (p50, p99) = machine.fdatasync_ms;
    format!(
        "{confirmd} ({commit}), {rustc}, SQLite {sqlite}, {postgres}, Postfix {postfix}; {cores} cores of {cpu}, Linux {kernel}; \
         fdatasync p50 {p50:.3} ms, p99 {p99:.3} ms; load before the run {:.1}.",
        machine.load
    )
}

fn goals(goal: Option<Goal>) -> [String; 2] {
    let text = |value: Option<f64>| value.map(figure).unwrap_or_default();
    [
        text(goal.and_then(|goal| goal.must)),
        text(goal.map(|goal| goal.aim)),
    ]
}

fn line(measure: &Measure) -> String {
    let [must, aim] = goals(measure.goal);
    let mut line = format!(
        "{:>2} {}: must {must:>4} aim {aim:>4}: ",
        measure.row, measure.what
    );
    if !measure.is_alone() {
        let _ = write!(
            line,
            "{}x; {} beside {} ",
            spread(measure.ratios()),
            spread(measure.side(|pair| pair.a)),
            spread(measure.side(|pair| pair.b))
        );
    } else {
        let _ = write!(line, "{} ", spread(measure.ratios()));
    }
    let _ = write!(line, "{}: {}", measure.unit, measure.verdict().as_str());
    for note in &measure.notes {
        let _ = write!(line, "\n      {note}");
    }
    line
}

fn spread([median, least, most]: [f64; 3]) -> String {
    format!("{} ({} to {})", figure(median), figure(least), figure(most))
}

/// Three digits that matter.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == v.trunc() => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
