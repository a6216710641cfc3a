//! Two plots as plain SVG: how each row stands to its goals, and the latencies of the open loops.

use std::fmt::Write as _;

use crate::pairs::{Measure, QUANTILES, spread};

const LEFT: f64 = 430.0;
const WIDTH: f64 = 900.0;
const STEP: f64 = 24.0;
const TOP: f64 = 40.0;

/// One line a row with a goal: where its ratios lie between a tenth and ten times what they must be, to the right the better.
pub fn ratios(measures: &[Measure]) -> String {
    let goals = measures
        .iter()
        .filter_map(|measure| Some((measure, measure.goal?)));
    let goals: Vec<_> = goals.collect();
    let mut plot = Plot::new(goals.len());
    plot.guide(1.0, "must");
    for (place, (measure, goal)) in goals.into_iter().enumerate() {
        let base = goal.must.unwrap_or(goal.aim);
        let share = |value: f64| {
            if goal.at_most {
                base / value
            } else {
                value / base
            }
        };
        let [median, least, most] = measure.ratios().map(share);
        let name = format!("{} {}", measure.row, measure.what);
        plot.line(
            place,
            &name,
            [median, least.min(most), least.max(most)],
            Some(share(goal.aim)),
        );
    }
    plot.finish("Ratio by what it must be (line) and should be (triangle), median and spread")
}

/// One line an open loop: p50 to p99.9, the dot at p99, in milliseconds.
pub fn latencies(measures: &[Measure]) -> String {
    let open: Vec<_> = measures
        .iter()
        .filter(|measure| !measure.latency.is_empty())
        .collect();
    let mut plot = Plot::new(open.len());
    for mark in [0.1, 1.0, 10.0] {
        plot.guide(mark, &format!("{mark} ms"));
    }
    for (place, measure) in open.into_iter().enumerate() {
        let at = |i: usize| spread(measure.latency.iter().map(|all| all[i]))[0];
        let [p50, _, p99, p999] = [0, 1, 2, QUANTILES.len() - 1].map(at);
        plot.line(
            place,
            &format!("{} {}", measure.row, measure.what),
            [p99, p50, p999],
            None,
        );
    }
    plot.finish("Latency from the intended time of sending: p50, p99 (dot), p99.9")
}

struct Plot {
    body: String,
    lines: usize,
}

impl Plot {
    fn new(lines: usize) -> Self {
        Self {
            body: String::new(),
            lines,
        }
    }

    /// Logarithmic, from 0.05 to 50.
    fn x(value: f64) -> f64 {
        let share = (value.clamp(0.05, 50.0) / 0.05).log10() / 3.0;
        LEFT + share * (WIDTH - LEFT - 20.0)
    }

    fn guide(&mut self, value: f64, name: &str) {
        let (x, end) = (Self::x(value), TOP + STEP * self.lines as f64);
        let _ = write!(
            self.body,
            "<path d='M{x:.1} {TOP}V{end}' stroke='#888' stroke-dasharray='3 3'/>"
        );
        let _ = write!(
            self.body,
            "<text x='{x:.1}' y='{}' text-anchor='middle' fill='#666'>{name}</text>",
            end + 14.0
        );
    }

    fn line(&mut self, place: usize, name: &str, [dot, from, to]: [f64; 3], aim: Option<f64>) {
        let y = TOP + STEP * (place as f64 + 0.5);
        let [dot, from, to] = [dot, from, to].map(Self::x);
        let _ = write!(
            self.body,
            "<text x='{}' y='{}' text-anchor='end'>{name}</text>",
            LEFT - 10.0,
            y + 4.0
        );
        let _ = write!(
            self.body,
            "<path d='M{from:.1} {y}H{to:.1}' stroke='#0b6b57' stroke-width='4' stroke-linecap='round' opacity='.5'/>"
        );
        let _ = write!(
            self.body,
            "<circle cx='{dot:.1}' cy='{y}' r='5' fill='#0b6b57'/>"
        );
        if let Some(x) = aim.map(Self::x) {
            let _ = write!(
                self.body,
                "<path d='M{x:.1} {}l5 8h-10z' fill='#c60'/>",
                y - 4.0
            );
        }
    }

    fn finish(self, title: &str) -> String {
        let height = TOP + STEP * self.lines as f64 + 24.0;
        let body = self.body;
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='system-ui,sans-serif' font-size='12'>\
             <rect width='100%' height='100%' fill='#fff'/><text x='10' y='22' font-size='14'>{title}</text>{body}</svg>\n"
        )
    }
}
