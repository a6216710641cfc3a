//! A B A B: both sides in turn, a ratio for each pair, and what the ratios say together.

use serde::Serialize;

use crate::load::Load;

/// Both sides of one pair. Where nothing is beside, `b` is 1 and the ratio is the figure itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pair {
    pub a: f64,
    pub b: f64,
}

impl Pair {
    /// Counts both sides in another unit.
    pub fn times(self, factor: f64) -> Self {
        Self {
            a: self.a * factor,
            b: self.b * factor,
        }
    }
}

/// One figure alone.
pub fn alone(a: f64) -> Pair {
    Pair { a, b: 1.0 }
}

/// What a ratio must be and should be.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Goal {
    pub must: Option<f64>,
    pub aim: f64,
    /// Whether less is better.
    pub at_most: bool,
}

/// The quantiles of latency that are kept.
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Measure {
    pub row: u32,
    pub what: String,
    pub beside: String,
    /// What `a` and `b` count.
    pub unit: &'static str,
    pub goal: Option<Goal>,
    pub pairs: Vec<Pair>,
    /// Anything else that was seen, in words.
    pub notes: Vec<String>,
    /// Latencies of an open loop in milliseconds at [`QUANTILES`], of each pair.
    pub latency: Vec<[f64; 4]>,
}

/// What the pairs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    Aim,
    Must,
    Missed,
    Restless,
    Reported,
}

impl Verdict {
    /// Returns the words of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Aim => "aim reached",
            Verdict::Must => "must reached",
            Verdict::Missed => "MISSED",
            Verdict::Restless => "no verdict",
            Verdict::Reported => "reported",
        }
    }
}

/// The widest spread of a floor, (max - min) / median, that still carries a verdict.
const WIDEST: f64 = 0.25;

impl Measure {
    /// Starts a line without pairs.
    pub fn new(row: u32, what: &str, beside: &str, unit: &'static str) -> Self {
        Self {
            row,
            what: what.to_owned(),
            beside: beside.to_owned(),
            unit,
            goal: None,
            pairs: Vec::new(),
            notes: Vec::new(),
            latency: Vec::new(),
        }
    }

    /// The ratio must be and should be at least this.
    pub fn at_least(mut self, must: f64, aim: f64) -> Self {
        self.goal = Some(Goal {
            must: Some(must),
            aim,
            at_most: false,
        });
        self
    }

    /// The ratio must be and should be at most this.
    pub fn at_most(mut self, must: impl Into<Option<f64>>, aim: f64) -> Self {
        self.goal = Some(Goal {
            must: must.into(),
            aim,
            at_most: true,
        });
        self
    }

    /// Keeps the latencies of an open loop.
    pub fn latencies(&mut self, load: &Load) {
        self.latency
            .push(QUANTILES.map(|q| load.latency(q).as_secs_f64() * 1000.0));
    }

    /// Returns median, least and most of the ratios.
    pub fn ratios(&self) -> [f64; 3] {
        spread(self.pairs.iter().map(|pair| pair.a / pair.b))
    }

    /// Returns median, least and most of one side.
    pub fn side(&self, side: impl Fn(&Pair) -> f64) -> [f64; 3] {
        spread(self.pairs.iter().map(side))
    }

    /// Tells whether nothing stands beside.
    pub fn is_alone(&self) -> bool {
        self.pairs.iter().all(|pair| pair.b == 1.0)
    }

    /// Tells whether what stands beside moved too much to carry a verdict.
    pub fn is_restless(&self) -> bool {
        let [median, least, most] = self.side(|pair| pair.b);
        (most - least) / median > WIDEST
    }

    /// Judges the median.
    pub fn verdict(&self) -> Verdict {
        let Some(Goal { must, aim, at_most }) = self.goal else {
            return Verdict::Reported;
        };
        let [median, ..] = self.ratios();
        let reaches = |goal: f64| {
            if at_most {
                median <= goal
            } else {
                median >= goal
            }
        };
        match () {
            () if self.is_restless() => Verdict::Restless,
            () if reaches(aim) => Verdict::Aim,
            () if must.is_none_or(reaches) => Verdict::Must,
            () => Verdict::Missed,
        }
    }
}

/// Returns median, least and most.
pub fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.as_slice() {
        [] => [f64::NAN; 3],
        all => [all[all.len() / 2], all[0], all[all.len() - 1]],
    }
}

/// Returns a quantile; puts the values in order.
pub fn quantile(values: &mut [u64], quantile: f64) -> u64 {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * quantile).round() as usize)
        .copied()
        .unwrap_or(0)
}
