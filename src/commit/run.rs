//! A run: who makes and uses versions.

use super::artifact::Artifact;
use super::publish::{Published, SaveOptions};
use crate::catalog::RunRecord;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::words::RunId;

/// Who a run is, as far as it is said; the rest comes from the environment: `CAIRN_RUN`, `CAIRN_RUN_GROUP`, `CAIRN_JOB_TYPE`.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The run's id; a fresh one if neither this nor the environment has one.
    pub id: Option<String>,
    /// The group it belongs to.
    pub group: Option<String>,
    /// What kind of work it is.
    pub job_type: Option<String>,
}

/// One execution of a user's program, which makes versions in a store.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// let run = cairn::Run::new(&store, cairn::RunOptions { id: Some("train-1".into()), ..Default::default() })?;
/// let mut model = cairn::Artifact::new("model", "model")?;
/// model.add_bytes("weights.bin", [0u8; 16])?;
/// let published = run.log_artifact(&model)?;
/// assert_eq!(published.version.record().run.as_ref().unwrap().id.as_str(), "train-1");
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Clone)]
pub struct Run {
    store: Store,
    record: RunRecord,
    named: bool,
}

impl Run {
    /// A run that works with `store`.
    ///
    /// # Errors
    /// Usage: an id, group or job type that is not allowed.
    pub fn new(store: &Store, options: RunOptions) -> Result<Run> {
        let said = |given: Option<String>, variable: &str| given.or_else(|| std::env::var(variable).ok()).filter(|v| !v.is_empty());
        let id = said(options.id, "CAIRN_RUN").map(|id| RunId::parse(&id)).transpose()?;
        let text = |value: Option<String>, what: &str| match value {
            Some(v) if v.chars().count() > 128 || v.chars().any(char::is_control) => Err(Error::usage(format!("{what} {v:?} is not allowed: expected 1 to 128 printable characters"))),
            other => Ok(other),
        };
        let group = text(said(options.group, "CAIRN_RUN_GROUP"), "group")?;
        let job_type = text(said(options.job_type, "CAIRN_JOB_TYPE"), "job type")?;
        let named = id.is_some();
        Ok(Run { store: store.clone(), record: RunRecord { id: id.unwrap_or_else(RunId::fresh), group, job_type }, named })
    }

    /// Its id.
    pub fn id(&self) -> &RunId {
        &self.record.id
    }

    /// What records say of it.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// The group it belongs to.
    pub fn group(&self) -> Option<&str> {
        self.record.group.as_deref()
    }

    /// Publishes an artifact as made by this run.
    ///
    /// # Errors
    /// As [`Artifact::save`].
    pub fn log_artifact(&self, artifact: &Artifact) -> Result<Published> {
        self.log_artifact_with(artifact, SaveOptions::default())
    }

    /// [`Run::log_artifact`] with options; their run is this one.
    ///
    /// # Errors
    /// As [`Artifact::save`].
    pub fn log_artifact_with(&self, artifact: &Artifact, options: SaveOptions) -> Result<Published> {
        artifact.save_with(&self.store, &SaveOptions { run: Some(self.record.clone()), note_run: self.named, ..options })
    }
}
