//! Curves as an SVG file: a panel for each, both axes logarithmic.

use std::fmt::Write;

/// What one thing costs at several sizes, before and after.
#[derive(Debug)]
pub struct Curve {
    pub title: String,
    pub unit: &'static str,
    pub sizes: Vec<u64>,
    /// Empty if nothing was measured before.
    pub before: Vec<f64>,
    pub after: Vec<f64>,
}

const COLUMNS: usize = 3;
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 190.0;
/// The space around a plot, in its panel: left, right, above, below.
const MARGIN: [f64; 4] = [52.0, 16.0, 34.0, 34.0];

/// A drawing of all curves.
pub fn svg(curves: &[Curve]) -> String {
    let rows = curves.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64 + 26.0);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"
    );
    let _ = writeln!(
        out,
        "<text x=\"12\" y=\"17\"><tspan fill=\"#b33\">before</tspan> and <tspan fill=\"#07a\">after</tspan>; \
         both axes are logarithmic</text>"
    );
    for (i, curve) in curves.iter().enumerate() {
        let (x, y) = ((i % COLUMNS) as f64 * WIDTH, (i / COLUMNS) as f64 * HEIGHT + 26.0);
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        panel(&mut out, curve);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// From a value to a coordinate: both ends are powers of ten.
struct Axis {
    from: i32,
    to: i32,
    begin: f64,
    length: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, begin: f64, length: f64) -> Axis {
        let logs = values.filter(|v| *v > 0.0).map(f64::log10);
        let from = logs.clone().fold(f64::INFINITY, f64::min).floor();
        let to = logs.fold(f64::NEG_INFINITY, f64::max).ceil();
        let from = if from.is_finite() { from as i32 } else { 0 };
        Axis { from, to: (if to.is_finite() { to as i32 } else { 1 }).max(from + 1), begin, length }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.max(1e-9).log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        self.begin + part * self.length
    }

    fn tens(&self) -> impl Iterator<Item = f64> {
        (self.from..=self.to).map(|power| 10f64.powi(power))
    }
}

fn panel(out: &mut String, curve: &Curve) {
    let [left, right, above, below] = MARGIN;
    let (bottom, end) = (HEIGHT - below, WIDTH - right);
    let x = Axis::over(curve.sizes.iter().map(|n| *n as f64), left, end - left);
    let y = Axis::over(curve.before.iter().chain(&curve.after).copied(), bottom, above - bottom);
    let _ = writeln!(out, "<text x=\"{left}\" y=\"16\" font-weight=\"bold\">{}</text>", curve.title);
    let _ = writeln!(out, "<text x=\"{left}\" y=\"29\" fill=\"#666\">{}</text>", curve.unit);
    for at in y.tens() {
        let line = y.at(at);
        let _ = writeln!(out, "<path d=\"M{left} {line:.1}H{end}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            line + 4.0,
            short(at)
        );
    }
    for at in x.tens() {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x.at(at),
            bottom + 16.0,
            short(at)
        );
    }
    for (values, colour) in [(&curve.before, "#b33"), (&curve.after, "#07a")] {
        let known = curve.sizes.iter().zip(values).filter(|(_, value)| value.is_finite());
        let points: Vec<_> = known.map(|(n, v)| (x.at(*n as f64), y.at(*v))).collect();
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

/// A power of ten, in few characters.
fn short(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{} M", n / 1e6),
        n if n >= 1e3 => format!("{} k", n / 1e3),
        n => n.to_string(),
    }
}
