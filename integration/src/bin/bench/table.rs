//! The table: medians, ratios against each peer, and the distance to the goals. Text only.

use std::fmt::Write;

use crate::measure::{IDLE, Samples, counts_instructions};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

/// A line of the table.
struct Row {
    key: &'static str,
    title: &'static str,
    goal: Option<f64>,
    better: Better,
}

const fn row(key: &'static str, title: &'static str, goal: f64, better: Better) -> Row {
    Row { key, title, goal: Some(goal), better }
}

/// The bold lines of performance.md.
const ROWS: [Row; 15] = [
    row("create", "Create, ms", 6.5, Better::Less),
    row("start", "Start, ms", 1.8, Better::Less),
    row("exit", "exit notice, ms", 0.6, Better::Less),
    row("delete", "Delete, ms", 6.5, Better::Less),
    row("total", "lifecycle, ms", 16.0, Better::Less),
    row("cpu", "machine CPU, ms", 30.0, Better::Less),
    row("exec", "exec, ms", 5.5, Better::Less),
    Row { key: "rss", title: "idle RSS, MB", goal: None, better: Better::Less },
    row("pss", "idle PSS, MB", 0.35, Better::Less),
    row("dirty", "idle private dirty, MB", 0.25, Better::Less),
    row("threads", "idle threads", 1.0, Better::Less),
    row("sequential", "starts/s, one by one", 60.0, Better::More),
    row("parallel", "starts/s, eight at a time", 130.0, Better::More),
    row("pipe", "stdout, MB/s", 1850.0, Better::More),
    row("pipe-cpu", "shim CPU, s per GiB", 0.2, Better::Less),
];

/// Lays out everything that was measured.
pub(crate) fn render(results: &[Samples], samples: usize) -> String {
    let mut text =
        format!("\n{samples} lifecycles and execs each, interleaved; medians (CPU: mean); {IDLE} idle shims.\n\n");
    let figures: Vec<_> = results.iter().map(Samples::figures).collect();
    let mut head = format!("{:<27}", "");
    for result in results {
        let _ = write!(head, "{:>9}", result.product.name());
    }
    for peer in results.iter().skip(1) {
        let _ = write!(head, "{:>11}", format!("vs {}", peer.product.name()));
    }
    let _ = writeln!(head, "{:>9}  distance of {}", "goal", results.first().map_or("", |result| result.product.name()));
    text.push_str(&head);
    for row in &ROWS {
        let values: Vec<f64> = figures.iter().map(|by_key| by_key.get(row.key).copied().unwrap_or_default()).collect();
        let _ = write!(text, "{:<27}", row.title);
        for value in &values {
            let _ = write!(text, "{:>9}", number(*value));
        }
        let own = values.first().copied().unwrap_or_default();
        for peer in values.iter().skip(1) {
            let _ = write!(text, "{:>11}", ratio(row.better, own, *peer));
        }
        let _ = writeln!(
            text,
            "{}",
            row.goal
                .filter(|_| !counts_instructions())
                .map_or_else(String::new, |goal| distance(row.better, own, goal))
        );
    }
    text
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// How many times better the first contender is.
fn ratio(better: Better, own: f64, peer: f64) -> String {
    let times = if better == Better::Less { peer / own } else { own / peer };
    if times.is_finite() { format!("{times:.1}x") } else { "-".to_owned() }
}

fn distance(better: Better, own: f64, goal: f64) -> String {
    let met = if better == Better::Less { own <= goal } else { own >= goal };
    let percent = (own / goal - 1.0) * 100.0;
    let sign = if better == Better::Less { "<=" } else { ">=" };
    format!("{:>9}  {} {percent:+.0}%", format!("{sign}{}", number(goal)), if met { "met" } else { "NOT met" })
}
