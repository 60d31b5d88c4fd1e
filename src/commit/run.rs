//! A run: one execution of a user's program, which makes and uses versions.

use super::artifact::Artifact;
use super::modes::{self, FinishOptions, UpsertInProgress, UpsertOptions, Upserted};
use super::publication::{Published, SaveOptions};
use crate::catalog::{Draft, RunRecord, Version, uses};
use crate::error::{Error, Result};
use crate::setters::setters;
use crate::store::Store;
use crate::types::{ArtifactName, DistributedId, RunId};

/// The names of a run. What is not given comes from the environment: `CAIRN_RUN`, `CAIRN_RUN_GROUP`, `CAIRN_JOB_TYPE`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RunOptions {
    /// The run's id; a random one if neither this nor the environment has one.
    pub id: Option<String>,
    /// The group it belongs to.
    pub group: Option<String>,
    /// What kind of work it is.
    pub job_type: Option<String>,
}

setters! {
    RunOptions {
        id: impl Into<String> => Some(id.into()),
        group: impl Into<String> => Some(group.into()),
        job_type: impl Into<String> => Some(job_type.into()),
    }
}

/// One execution of a user's program, which makes versions in a store.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// let run = cairn::Run::new(&store, cairn::RunOptions::default().id("train-1"))?;
/// let mut model = cairn::Artifact::new("model", "model")?;
/// model.add_bytes("weights.bin", [0u8; 16])?;
/// let published = run.log_artifact(&model)?;
/// assert_eq!(published.version.record().run.as_ref().unwrap().id.as_str(), "train-1");
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Run {
    store: Store,
    record: RunRecord,
    named: bool,
}

impl Run {
    /// A run that uses `store`.
    ///
    /// # Errors
    /// Usage: an id, group or job type that is not allowed.
    pub fn new(store: &Store, options: RunOptions) -> Result<Run> {
        let or_variable = |given: Option<String>, variable: &str| {
            given.or_else(|| std::env::var(variable).ok()).filter(|v| !v.is_empty())
        };
        let id = or_variable(options.id, "CAIRN_RUN").map(|id| RunId::parse(&id)).transpose()?;
        let text = |value: Option<String>, what: &str| match value {
            Some(v) if v.chars().count() > 128 || v.chars().any(char::is_control) => {
                Err(Error::usage(format!("{what} {v:?} is not allowed: expected 1 to 128 printable characters")))
            }
            other => Ok(other),
        };
        let group = text(or_variable(options.group, "CAIRN_RUN_GROUP"), "group")?;
        let job_type = text(or_variable(options.job_type, "CAIRN_JOB_TYPE"), "job type")?;
        let named = id.is_some();
        let id = id.unwrap_or_else(RunId::fresh);
        let store = if named { store.for_run(id.clone()) } else { store.clone() };
        Ok(Run { store, record: RunRecord { id, group, job_type }, named })
    }

    /// The run of a record.
    pub fn of(store: &Store, record: RunRecord) -> Run {
        Run { store: store.for_run(record.id.clone()), record, named: true }
    }

    /// Its id.
    pub fn id(&self) -> &RunId {
        &self.record.id
    }

    /// Whether its id was given, not made up.
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// Its record.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// The group it belongs to.
    pub fn group(&self) -> Option<&str> {
        self.record.group.as_deref()
    }

    /// The version that a text names now, recorded as used by this run. If it was recorded before, nothing changes.
    ///
    /// # Errors
    /// As [`Store::version`]. I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
    /// # cairn::Artifact::new("images", "dataset")?.add_bytes("a.png", "…")?.save(&store)?;
    /// let run = cairn::Run::new(&store, cairn::RunOptions::default().id("train-1"))?;
    /// let images = run.use_artifact("images")?;
    /// assert_eq!(images.to_string(), "images:v0");
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn use_artifact(&self, text: &str) -> Result<Version> {
        let version = self.store.version(text)?;
        uses::record(&version, &self.record)?;
        Ok(version)
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
        artifact
            .save_with(&self.store, &SaveOptions { run: Some(self.record.clone()), note_run: self.named, ..options })
    }

    /// Contributes an artifact to the collaborative version `distributed_id`; without one, to that of the run's group.
    /// A later contribution of the same run overrides its earlier ones path by path.
    ///
    /// # Errors
    /// Usage: neither an id nor a group; a patch. Conflict: the draft is finished or was discarded meanwhile; another
    /// process is writing for this run; another type. Else as [`Artifact::save`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let run = |id: &str| cairn::Run::new(&store, cairn::RunOptions::default().id(id).group("eval-7"));
    /// for rank in ["rank-0", "rank-1"] {
    ///     let mut part = cairn::Artifact::new("scores", None)?;
    ///     part.add_bytes(format!("{rank}.csv"), "0.5")?;
    ///     run(rank)?.upsert_artifact(&part, None)?;
    /// }
    /// let published = run("last")?.finish_artifact(&cairn::Artifact::new("scores", None)?, None)?;
    /// assert_eq!(published.version.record().files, 2);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn upsert_artifact<'a>(
        &self,
        artifact: &Artifact,
        distributed_id: impl Into<Option<&'a str>>,
    ) -> Result<Upserted> {
        self.upsert_artifact_with(artifact, distributed_id, &UpsertOptions::default())
    }

    /// [`Run::upsert_artifact`] with options.
    ///
    /// # Errors
    /// As [`Run::upsert_artifact`].
    pub fn upsert_artifact_with<'a>(
        &self,
        artifact: &Artifact,
        distributed_id: impl Into<Option<&'a str>>,
        options: &UpsertOptions,
    ) -> Result<Upserted> {
        modes::upsert(&self.draft(artifact.name(), distributed_id)?, &self.record, artifact, options)
    }

    /// Begins an upsert before its content is complete: `finish`, and other processes of this run, see from now on that
    /// the run is writing. [`UpsertInProgress::save`] records what the artifact has then.
    ///
    /// # Errors
    /// As [`Run::upsert_artifact`].
    pub fn begin_upsert<'a>(
        &self,
        artifact: &Artifact,
        distributed_id: impl Into<Option<&'a str>>,
    ) -> Result<UpsertInProgress> {
        modes::begin(&self.draft(artifact.name(), distributed_id)?, &self.record, artifact)
    }

    /// Makes one version of all that was contributed to `distributed_id` (without one, to that of the run's group) and
    /// of what `artifact` has, and closes the id. If it is called again, it returns the same version.
    ///
    /// # Errors
    /// Usage: neither an id nor a group; a patch. Conflict: runs differ at a path; runs are still writing; it is
    /// finished, and `artifact` has something that is not in it. Not found: there is nothing to finish. Else as
    /// [`Artifact::save`].
    pub fn finish_artifact<'a>(
        &self,
        artifact: &Artifact,
        distributed_id: impl Into<Option<&'a str>>,
    ) -> Result<Published> {
        self.finish_artifact_with(artifact, distributed_id, &FinishOptions::default())
    }

    /// [`Run::finish_artifact`] with options.
    ///
    /// # Errors
    /// As [`Run::finish_artifact`].
    pub fn finish_artifact_with<'a>(
        &self,
        artifact: &Artifact,
        distributed_id: impl Into<Option<&'a str>>,
        options: &FinishOptions,
    ) -> Result<Published> {
        let draft = self.draft(artifact.name(), distributed_id)?;
        modes::finish(&draft, Some(&self.record), artifact, options)
    }

    /// The draft of `name` with that id; without one, with the id of the run's group.
    ///
    /// # Errors
    /// Usage: neither, or an id that is not allowed.
    pub fn draft<'a>(&self, name: &ArtifactName, distributed_id: impl Into<Option<&'a str>>) -> Result<Draft> {
        let id = distributed_id.into().or(self.group()).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| {
            Error::usage("a distributed id or a group is needed").with_hint(
                "all runs that make one version together give the same --distributed-id, or the same --group",
            )
        })?;
        Ok(Draft::new(&self.store, name, &DistributedId::parse(id)?))
    }
}
