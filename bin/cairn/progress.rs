//! The bar: on a terminal, after half a second, from the library's counters.

use cairn::progress::Progress;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work shorter than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// A bar that goes away when it is dropped.
pub struct Bar {
    progress: Arc<Progress>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Bar {
    /// A bar for work called `what`; none when stderr is no terminal or nobody wants talk.
    pub fn start(what: &'static str, quiet: bool) -> Bar {
        let progress = Arc::new(Progress::default());
        if quiet || !std::io::stderr().is_terminal() {
            return Bar { progress, thread: None };
        }
        let (stop, stopped) = channel();
        let counters = progress.clone();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut wait = PATIENCE;
            let mut bar = None;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = TICK;
                draw(bar.get_or_insert_with(|| new_bar(what, begun)), &counters);
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

fn new_bar(what: &'static str, begun: Instant) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10)).with_elapsed(begun.elapsed());
    let style = ProgressStyle::with_template("{prefix} {msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what);
    bar
}

fn draw(bar: &ProgressBar, counters: &Progress) {
    let now = counters.read();
    bar.set_length(now.bytes_total.max(now.bytes_done));
    bar.set_position(now.bytes_done);
    bar.set_message(format!("{}/{} files", HumanCount(now.files_done), HumanCount(now.files_total.max(now.files_done))));
    bar.tick();
}

/// Bytes for people: `1.5 MiB`.
pub fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}
