//! SIGINT (Ctrl-C), SIGTERM and SIGHUP. The library is safe at every point, so the process may end at once and print
//! what was kept. Long work is asked to stop first, so that more is kept; a second signal ends the process at once.

use cairn::error::{Detail, Error, ErrorReport};
use cairn::progress::Progress;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};
use std::sync::{Arc, OnceLock};

/// The signals that end a command: a terminal, batch systems, service managers and container engines send them.
const SIGNALS: [(libc::c_int, &str); 3] =
    [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM"), (libc::SIGHUP, "SIGHUP")];

/// What is printed for each of [`SIGNALS`]; leaked, so a handler may read it at any time.
static TEXTS: AtomicPtr<[Vec<u8>; SIGNALS.len()]> = AtomicPtr::new(std::ptr::null_mut());
/// Whether the first signal only sets [`CAUGHT`] and stops [`WORK`].
static GENTLE: AtomicBool = AtomicBool::new(false);
/// The first signal, or 0.
static CAUGHT: AtomicI32 = AtomicI32::new(0);
static WORK: OnceLock<Arc<Progress>> = OnceLock::new();

extern "C" fn on_signal(signal: libc::c_int) {
    if GENTLE.load(Ordering::Relaxed)
        && CAUGHT.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        if let Some(work) = WORK.get() {
            work.cancel();
        }
        return;
    }
    if let Some(text) = text(signal) {
        // SAFETY: `write` is a call that a signal handler may make; the text is leaked and never changes.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: a call that a signal handler may make.
    unsafe { libc::_exit(i32::from(status(signal))) };
}

fn text(signal: libc::c_int) -> Option<&'static [u8]> {
    let at = SIGNALS.iter().position(|(s, _)| *s == signal)?;
    // SAFETY: null, or a box that `set_message` leaked.
    unsafe { TEXTS.load(Ordering::Acquire).as_ref() }.map(|texts| texts[at].as_slice())
}

/// The exit status after a signal, as shells give it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
fn status(signal: libc::c_int) -> u8 {
    128 + signal as u8
}

/// From now on each of the signals ends the process.
pub fn watch() {
    install(libc::SA_RESTART);
}

fn install(flags: libc::c_int) {
    for (signal, _) in SIGNALS {
        // SAFETY: the handler makes only calls that a handler may make. A signal that the parent ignores (`nohup`, a
        // background job) stays ignored.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction != libc::SIG_IGN {
                action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
                action.sa_flags = flags;
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }
}

/// Gives the signals back to the system, for work that ends in its own way.
pub fn unwatch() {
    for (signal, _) in SIGNALS {
        // SAFETY: the default action is always valid, and one that is ignored stays so.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction != libc::SIG_IGN {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// Sets what is printed at a signal: what was kept.
pub fn set_message(kept: &str, json: bool) {
    let texts = SIGNALS.map(|(signal, name)| {
        let error = if signal == libc::SIGINT { "interrupted".to_owned() } else { format!("interrupted by {name}") };
        let e = Error::conflict(error).with_detail(Detail::Interrupted).with_hint(kept);
        let mut report = ErrorReport::from(&e);
        report.exit = status(signal);
        let text = if json {
            serde_json::to_string(&report).expect("strings and numbers always serialise") + "\n"
        } else {
            let line = if signal == libc::SIGINT { "\n" } else { "" }; // after the terminal's ^C
            format!("{line}{}", report.to_text())
        };
        text.into_bytes()
    });
    TEXTS.store(Box::into_raw(Box::new(texts)), Ordering::Release);
}

/// From now on the first signal is only recorded: [`received`] returns it. A system call that waits ends with EINTR.
pub fn install_handlers() {
    install(0);
    GENTLE.store(true, Ordering::Relaxed);
}

/// From now on the first signal asks this work to stop.
pub fn cancel_on_interrupt(work: Arc<Progress>) {
    install(libc::SA_RESTART);
    if received().is_some() {
        work.cancel();
    }
    let _ = WORK.set(work); // a process does one work
    GENTLE.store(true, Ordering::Relaxed);
}

/// The exit status to end with, if a signal was noticed.
pub fn received() -> Option<u8> {
    Some(CAUGHT.load(Ordering::Relaxed)).filter(|s| *s != 0).map(status)
}

/// Prints at the end what the signal would have printed at once.
pub fn print_message() {
    if let Some(text) = text(CAUGHT.load(Ordering::Relaxed)) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text); // nothing else can be done with it
    }
}
