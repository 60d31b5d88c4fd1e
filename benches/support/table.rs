//! The table: medians of both sides, the ratio, the target, whether it was met.

use super::process::Run;
use std::time::Duration;

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Our time is at most this many times the other's.
    Ratio(f64),
    /// Our time is at most this many milliseconds.
    Millis(u64),
    /// Nothing: for comparison.
    None,
}

/// Both sides of one line, in turn.
#[derive(Debug)]
pub struct Row {
    pub line: &'static str,
    pub other: &'static str,
    pub target: Target,
    /// The most memory it may take, in MiB.
    pub memory: Option<u64>,
    /// How many things one run did, if times are per thing.
    pub each: (u64, u64),
    pub runs: Vec<(Run, Run)>,
    /// Files and bytes in the store afterwards, or another remark.
    pub note: String,
    /// Whether what the note says is as it should be.
    pub sound: bool,
}

impl Row {
    pub fn new(line: &'static str, other: &'static str, target: Target) -> Row {
        Row { line, other, target, memory: None, each: (1, 1), runs: Vec::new(), note: String::new(), sound: true }
    }

    fn medians(&self) -> (Duration, Duration) {
        let ours = self.runs.iter().map(|r| r.0.time).collect();
        let other = self.runs.iter().map(|r| r.1.time).collect();
        (median(ours) / self.each.0 as u32, median(other) / self.each.1 as u32)
    }

    /// The median of the rounds' own ratios: what made both sides slow for a while is in neither.
    fn ratio(&self) -> f64 {
        let each = self.each.1 as f64 / self.each.0 as f64;
        let mut ratios: Vec<f64> =
            self.runs.iter().map(|(a, b)| a.time.as_secs_f64() / b.time.as_secs_f64() * each).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }

    pub fn heading() -> String {
        format!(
            "{:<22} {:>10} {:>10} {:>6}  {:<10} {:<7} {:>9}  {:<36} {}",
            "line", "ours", "other", "ratio", "target", "", "peak", "other is", "note"
        )
    }

    pub fn text(&self) -> String {
        let (ours, other) = self.medians();
        let peak = self.runs.iter().map(|r| r.0.peak_kib).max().unwrap_or(0).div_ceil(1024);
        let (target, fast) = match self.target {
            Target::Ratio(most) => (format!("≤ {most} x"), self.ratio() <= most),
            Target::Millis(most) => (format!("≤ {most} ms"), ours <= Duration::from_millis(most)),
            Target::None => (String::new(), true),
        };
        let small = self.memory.is_none_or(|most| peak <= most);
        let verdict = match (self.target, fast && self.sound, small) {
            (Target::None, true, true) if self.memory.is_none() => "",
            (_, true, true) => "met",
            (_, false, _) => "MISSED",
            (_, true, false) => "MEMORY",
        };
        let memory = match (peak, self.memory) {
            (0, _) => String::new(),
            (_, None) => format!("{peak} M"),
            (_, Some(most)) => format!("{peak}/{most} M"),
        };
        format!(
            "{:<22} {:>10} {:>10} {:>6.2}  {:<10} {:<7} {:>9}  {:<36} {}",
            self.line,
            show(ours),
            show(other),
            self.ratio(),
            target,
            verdict,
            memory,
            self.other,
            self.note
        )
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn show(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.1} ms", s * 1e3),
        s => format!("{:.1} µs", s * 1e6),
    }
}
