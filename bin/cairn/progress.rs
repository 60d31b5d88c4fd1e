//! Progress on stderr: a bar on a terminal, after half a second; elsewhere a line for each change of a long wait.

use cairn::progress::{Activity, Progress, Reading};
use indicatif::{FormattedDuration, HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work that is shorter than this shows nothing.
const SHOW_AFTER: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// The display of one piece of work. It disappears when it is dropped.
pub struct Bar {
    progress: Arc<Progress>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Bar {
    /// A bar for `command`, whose work reports to `progress`. Nothing is shown with `quiet`, or if stderr is not a
    /// terminal.
    pub fn start(command: &'static str, quiet: bool, progress: Arc<Progress>) -> Bar {
        if quiet || !std::io::stderr().is_terminal() {
            return Bar { progress, thread: None };
        }
        let mut bar = None;
        Bar::every_tick(progress, move |progress, elapsed| match progress {
            Some(progress) => draw(bar.get_or_insert_with(|| new_bar(command)), progress, elapsed),
            None => bar.iter().for_each(ProgressBar::finish_and_clear),
        })
    }

    /// As [`Bar::start`]; if stderr is not a terminal, each change of what the work waits for is a line.
    pub fn start_with_waits(command: &'static str, quiet: bool, progress: Arc<Progress>) -> Bar {
        if quiet || std::io::stderr().is_terminal() {
            return Bar::start(command, quiet, progress);
        }
        let mut shown = Activity::Unknown;
        Bar::every_tick(progress, move |progress, _| {
            let Some(now @ Activity::Waiting(_)) = progress.map(Progress::activity) else { return };
            if now != shown {
                eprintln!("{}", activity_text(&now));
                shown = now;
            }
        })
    }

    /// Calls `show` often, from a thread of its own, and once with nothing at the end.
    fn every_tick(progress: Arc<Progress>, mut show: impl FnMut(Option<&Progress>, Duration) + Send + 'static) -> Bar {
        let (stop, stopped) = channel();
        let counters = progress.clone();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut wait = SHOW_AFTER;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = TICK;
                show(Some(&counters), begun.elapsed());
            }
            show(None, begun.elapsed());
        });
        Bar { progress, thread: Some((stop, thread)) }
    }

    /// What the work reports to.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join(); // if the display panicked, the work is still done
        }
    }
}

fn new_bar(command: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{prefix}: {msg} [{wide_bar}]") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(command);
    bar
}

fn draw(bar: &ProgressBar, progress: &Progress, elapsed: Duration) {
    let (now, activity) = (progress.read(), progress.activity());
    let (done, total) = position(&now);
    bar.set_length(total.max(1));
    bar.set_position(done);
    bar.set_message(message(&now, &activity, elapsed));
    bar.tick();
}

/// How much is done, and of how much: bytes, or files if there are no bytes.
fn position(now: &Reading) -> (u64, u64) {
    let (files, bytes) = (now.files_total.max(now.files_done), now.bytes_total.max(now.bytes_done));
    if bytes > 0 { (now.bytes_done, bytes) } else { (now.files_done, files) }
}

/// What the work is doing, and how far it is. Totals may still grow.
fn message(now: &Reading, activity: &Activity, elapsed: Duration) -> String {
    let doing = activity_text(activity);
    match activity {
        Activity::Waiting(_) | Activity::MakingDurable | Activity::Merging => return doing,
        Activity::Scanning => return format!("{doing}, {} found", crate::output::count(now.files_total, "file")),
        _ => {}
    }
    let (done, total) = position(now);
    if total == 0 {
        return doing;
    }
    let (files, bytes) = (now.files_total.max(now.files_done), now.bytes_total.max(now.bytes_done));
    let (files_done, files) = (HumanCount(now.files_done), HumanCount(files));
    let mut text = format!("{doing} {files_done}/{files} files  {}/{}", human(now.bytes_done), human(bytes));
    if done > 0 {
        let seconds = elapsed.as_secs_f64();
        let left = Duration::from_secs_f64((seconds * (total - done) as f64 / done as f64).min(1e9));
        let rate = human((now.bytes_done as f64 / seconds) as u64);
        text += &format!("  {rate}/s  {} left", FormattedDuration(Duration::from_secs(left.as_secs())));
    }
    text
}

fn activity_text(activity: &Activity) -> String {
    match activity {
        Activity::Scanning => "scanning".into(),
        Activity::Storing => "storing".into(),
        Activity::Merging => "merging".into(),
        Activity::MakingDurable => "making it durable".into(),
        Activity::Waiting(what) => format!("waiting for {what}"),
        _ => "working".into(),
    }
}

/// Bytes for people: `1.50 MiB`.
pub fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_is_done_and_how_far_it_is() {
        let mut now = Reading::default();
        (now.files_total, now.files_done) = (3, 1);
        (now.bytes_total, now.bytes_done) = (3 << 20, 1 << 20);
        let text = |activity| message(&now, &activity, Duration::from_secs(1));
        assert_eq!(text(Activity::Scanning), "scanning, 3 files found");
        assert_eq!(text(Activity::Storing), "storing 1/3 files  1.00 MiB/3.00 MiB  1.00 MiB/s  00:00:02 left");
        assert_eq!(text(Activity::MakingDurable), "making it durable");
        let runs = "runs, 15 of 16: run rank-5 is writing on host2";
        assert_eq!(text(Activity::Waiting(runs.into())), format!("waiting for {runs}"));
        assert_eq!(message(&Reading::default(), &Activity::Unknown, Duration::ZERO), "working");
    }
}
