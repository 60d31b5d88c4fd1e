//! Work without the interpreter's lock, which Ctrl-C can end.

use crate::error::{Failure, Result};
use cairn::progress::{Activity, Progress};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often signals are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// Short work on the disk: without the interpreter's lock, on this thread.
pub fn quick<T: Send>(py: Python<'_>, work: impl FnOnce() -> cairn::Result<T> + Send) -> Result<T> {
    Ok(py.detach(work)?)
}

/// Long work: on a thread of its own. If a signal's handler (Ctrl-C) or the caller's function for progress raises an
/// exception, the work is cancelled, and that exception is the result.
pub fn long<T: Send>(
    py: Python<'_>,
    report: &mut Report,
    work: impl FnOnce(&Arc<Progress>) -> cairn::Result<T> + Send,
) -> Result<T> {
    let progress = Arc::new(Progress::default());
    let result = py.detach(|| {
        let (ending, ended) = channel::<()>();
        std::thread::scope(|s| {
            let thread = s.spawn(|| {
                let _ending = ending; // dropped at the end
                work(&progress)
            });
            let mut raised = None;
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if raised.is_none() {
                    let checked = Python::attach(|py| py.check_signals().and_then(|()| report.update(py, &progress)));
                    raised = checked.err();
                    if raised.is_some() {
                        progress.cancel();
                    }
                }
            }
            let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            raised.map_or_else(|| result.map_err(Failure::from), |raised| Err(raised.into()))
        })
    });
    report.end(py, &progress, result.is_ok())?;
    result
}

/// Where the progress of long work is reported: `cairn._progress` decides.
pub struct Report {
    title: String,
    wanted: Option<Py<PyAny>>,
    /// Made when there is something to report; Python's None: no report is wanted.
    reporter: Option<Py<PyAny>>,
}

impl Report {
    /// As a caller's argument `progress` asks for.
    ///
    /// # Errors
    /// A TypeError, before there is any work.
    pub fn of(py: Python<'_>, title: impl Into<String>, wanted: Option<Py<PyAny>>) -> Result<Self> {
        if let Some(given) = wanted.as_ref().map(|wanted| wanted.bind(py))
            && !given.is_instance_of::<PyBool>()
            && !given.is_callable()
        {
            let found = given.get_type().name()?;
            return Err(
                PyTypeError::new_err(format!("progress is a function, True, False or None, not {found}")).into()
            );
        }
        Ok(Report { title: title.into(), wanted, reporter: None })
    }

    /// No report.
    pub fn none(py: Python<'_>) -> Self {
        Report { title: String::new(), wanted: None, reporter: Some(py.None()) }
    }

    fn reporter(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(made) = &self.reporter {
            return Ok(made.clone_ref(py));
        }
        let made = py.import("cairn._progress")?.call_method1("reporter", (&self.wanted, &self.title))?;
        Ok(self.reporter.insert(made.unbind()).clone_ref(py))
    }

    fn update(&mut self, py: Python<'_>, progress: &Progress) -> PyResult<()> {
        let reporter = self.reporter(py)?;
        if reporter.is_none(py) {
            return Ok(());
        }
        let now = progress.read();
        let values = (activity(progress), now.files_done, now.files_total, now.bytes_done, now.bytes_total);
        reporter.call_method1(py, "update", values).map(drop)
    }

    /// The last report, and the end of a bar.
    fn end(&mut self, py: Python<'_>, progress: &Progress, is_done: bool) -> PyResult<()> {
        if is_done && self.wanted.is_some() {
            self.update(py, progress)?;
        }
        match self.reporter.take().filter(|reporter| !reporter.is_none(py)) {
            Some(reporter) => reporter.call_method0(py, "close").map(drop),
            None => Ok(()),
        }
    }
}

fn activity(progress: &Progress) -> String {
    match progress.activity() {
        Activity::Scanning => "scanning".into(),
        Activity::Storing => "storing".into(),
        Activity::Merging => "merging".into(),
        Activity::MakingDurable => "making durable".into(),
        Activity::Waiting(what) => format!("waiting for {what}"),
        _ => String::new(),
    }
}
