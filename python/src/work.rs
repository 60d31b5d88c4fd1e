//! Work without the interpreter's lock, which Ctrl-C can end.

use crate::error::{Failure, Result};
use cairn::progress::Progress;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often signals are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// Short work on the disk: without the interpreter's lock, on this thread.
pub fn quick<T: Send>(py: Python<'_>, work: impl FnOnce() -> cairn::Result<T> + Send) -> Result<T> {
    Ok(py.detach(work)?)
}

/// Long work: on a thread of its own. If a signal's handler raises (Ctrl-C), the work is told to stop, and what the
/// handler raised is the result.
pub fn long<T: Send>(py: Python<'_>, work: impl FnOnce(&Arc<Progress>) -> cairn::Result<T> + Send) -> Result<T> {
    let progress = Arc::new(Progress::default());
    py.detach(|| {
        let (ending, ended) = channel::<()>();
        std::thread::scope(|s| {
            let thread = s.spawn(|| {
                let _ending = ending; // dropped at the end
                work(&progress)
            });
            let mut raised = None;
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if raised.is_none() {
                    raised = Python::attach(|py| py.check_signals()).err();
                    if raised.is_some() {
                        progress.cancel();
                    }
                }
            }
            let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            raised.map_or_else(|| result.map_err(Failure::from), |raised| Err(raised.into()))
        })
    })
}
