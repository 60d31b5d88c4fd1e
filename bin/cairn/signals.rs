//! Ctrl-C. The library is safe at every point, so the process may end at once, saying what was kept. A put asks the library to stop
//! first, so that more is kept; a second Ctrl-C ends it at once.

use cairn::progress::Progress;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What is said at Ctrl-C: text and length.
static TEXT: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);
/// Whether the first Ctrl-C only sets [`CAUGHT`] and stops [`WORK`].
static GENTLE: AtomicBool = AtomicBool::new(false);
static CAUGHT: AtomicBool = AtomicBool::new(false);
static WORK: OnceLock<Arc<Progress>> = OnceLock::new();

/// The exit status after Ctrl-C, as shells give it.
pub const INTERRUPTED: u8 = 130;

extern "C" fn on_interrupt(_: libc::c_int) {
    if GENTLE.load(Ordering::Relaxed) && !CAUGHT.swap(true, Ordering::Relaxed) {
        if let Some(work) = WORK.get() {
            work.stop();
        }
        return;
    }
    let length = LENGTH.load(Ordering::Acquire);
    let text = TEXT.load(Ordering::Acquire);
    // SAFETY: only calls that a signal handler may make; the text is leaked, so it lives for ever, and is set before its length.
    unsafe {
        if !text.is_null() {
            libc::write(2, text.cast_const().cast(), length);
        }
        libc::_exit(i32::from(INTERRUPTED));
    }
}

/// From now on Ctrl-C ends the process with status 130.
pub fn watch() {
    install(libc::SA_RESTART);
}

fn install(flags: libc::c_int) {
    // SAFETY: the handler makes only calls that a handler may make. A Ctrl-C that the parent ignores (`nohup`, a background job) stays ignored.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGINT, std::ptr::null(), &mut action) == 0 && action.sa_sigaction != libc::SIG_IGN {
            action.sa_sigaction = on_interrupt as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = flags;
            libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
        }
    }
}

/// Gives Ctrl-C back to the system, for work that has its own way to end.
pub fn unwatch() {
    // SAFETY: the default action is always valid.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
    }
}

/// What Ctrl-C will say: what was kept. Set once, before the work.
pub fn say(kept: &str, json: bool) {
    let text = if json {
        format!("{}\n", serde_json::json!({ "error": "interrupted", "causes": [], "hint": kept, "exit": INTERRUPTED }))
    } else {
        format!("\nerror: interrupted\nhint: {kept}\n")
    };
    let text = text.into_bytes().leak();
    LENGTH.store(0, Ordering::Release);
    TEXT.store(text.as_mut_ptr(), Ordering::Release);
    LENGTH.store(text.len(), Ordering::Release);
}

/// From now on the first Ctrl-C is only noticed: [`caught`] says so. A system call that waits ends with EINTR.
pub fn be_gentle() {
    install(0);
    GENTLE.store(true, Ordering::Relaxed);
}

/// From now on the first Ctrl-C asks this work to stop.
pub fn stop_gently(work: Arc<Progress>) {
    install(libc::SA_RESTART);
    if CAUGHT.load(Ordering::Relaxed) {
        work.stop();
    }
    let _ = WORK.set(work); // a process does one work
    GENTLE.store(true, Ordering::Relaxed);
}

/// Whether Ctrl-C was pressed.
pub fn caught() -> bool {
    CAUGHT.load(Ordering::Relaxed)
}

/// Says at the end what Ctrl-C would have said at once.
pub fn tell() {
    let (text, length) = (TEXT.load(Ordering::Acquire), LENGTH.load(Ordering::Acquire));
    if !text.is_null() {
        // SAFETY: both were set by `say` and are never freed.
        let text = unsafe { std::slice::from_raw_parts(text, length) };
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text); // there is nobody else to tell
    }
}
