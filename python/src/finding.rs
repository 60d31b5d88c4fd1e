//! `cairn.Finding`.

use cairn::verify::{VerifyReport, next_step};
use pyo3::prelude::*;

/// Something in a store that is not as it should be.
#[pyclass(frozen, get_all, name = "Finding", module = "cairn")]
pub struct PyFinding {
    /// Which kind, for programs: `cairn verify --help` lists the codes.
    code: String,
    /// What: a path below the store's root, a digest, a version.
    what: String,
    /// What was expected and found.
    why: String,
    /// What it affects: versions, and paths in them.
    affects: Vec<String>,
    /// The next step.
    hint: String,
}

impl PyFinding {
    pub fn of_report(report: VerifyReport) -> Vec<Self> {
        let of = |f: cairn::verify::Finding| PyFinding {
            code: f.code.to_owned(),
            what: f.what,
            why: f.why,
            affects: f.affects,
            hint: next_step(f.code).to_owned(),
        };
        report.findings.into_iter().map(of).collect()
    }
}

#[pymethods]
impl PyFinding {
    fn __repr__(&self) -> String {
        format!("<{} {}: {}>", self.code, self.what, self.why)
    }
}
