//! The bar: on a terminal, after half a second, from the library's counters.

use cairn::progress::Progress;
use indicatif::{FormattedDuration, HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Txn shorter than this shows nothing.
const SHOW_AFTER: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// A bar that goes away when it is dropped.
pub struct Bar {
    progress: Arc<Progress>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Bar {
    /// A bar for work called `what` that counts with `progress`; none when stderr is no terminal or nobody wants talk.
    pub fn start(what: &'static str, quiet: bool, progress: Arc<Progress>) -> Bar {
        if quiet || !std::io::stderr().is_terminal() {
            return Bar { progress, thread: None };
        }
        let (stop, stopped) = channel();
        let counters = progress.clone();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut wait = SHOW_AFTER;
            let mut bar = None;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = TICK;
                draw(bar.get_or_insert_with(|| new_bar(what)), &counters, begun.elapsed());
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        Bar { progress, thread: Some((stop, thread)) }
    }

    /// What the work counts with.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join(); // a bar that panicked is no reason to fail
        }
    }
}

fn new_bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{prefix} {msg} [{wide_bar}]") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what);
    bar
}

/// Files, bytes, rate, time left. Totals may still grow; work without bytes is measured by its files.
fn draw(bar: &ProgressBar, counters: &Progress, elapsed: Duration) {
    let now = counters.read();
    if now.files_total == 0 && now.bytes_total == 0 {
        bar.set_message("looking");
        bar.tick();
        return;
    }
    let (files, bytes) = (now.files_total.max(now.files_done), now.bytes_total.max(now.bytes_done));
    let (done, total) = if bytes > 0 { (now.bytes_done, bytes) } else { (now.files_done, files) };
    let mut text = format!(
        "{}/{} files  {}/{}",
        HumanCount(now.files_done),
        HumanCount(files),
        human(now.bytes_done),
        human(bytes)
    );
    if done > 0 {
        let seconds = elapsed.as_secs_f64();
        let left = Duration::from_secs_f64((seconds * (total - done) as f64 / done as f64).min(1e9));
        text += &format!(
            "  {}/s  {} left",
            human((now.bytes_done as f64 / seconds) as u64),
            FormattedDuration(Duration::from_secs(left.as_secs()))
        );
    }
    bar.set_length(total.max(1));
    bar.set_position(done);
    bar.set_message(text);
    bar.tick();
}

/// Bytes for people: `1.5 MiB`.
pub fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}
